-- Points in time are whole microseconds since 1970 (UTC), so that they compare
-- as numbers. The driver turns columns declared TIMESTAMP into times.

-- +goose Up
CREATE TABLE users (
    id            TEXT      NOT NULL PRIMARY KEY,
    email         TEXT      NOT NULL, -- normalized; never reused, since users are not deleted
    name          TEXT      NOT NULL,
    password_hash TEXT      NOT NULL, -- '' without a password
    admin         BOOLEAN   NOT NULL CHECK (admin IN (0, 1)),
    disabled      BOOLEAN   NOT NULL CHECK (disabled IN (0, 1)),
    created_at    TIMESTAMP NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_email ON users (email);

CREATE TABLE domains (
    id         TEXT      NOT NULL PRIMARY KEY,
    name       TEXT      NOT NULL,
    status     TEXT      NOT NULL CHECK (status IN ('enabled', 'disabled', 'frozen')),
    created_at TIMESTAMP NOT NULL
) WITHOUT ROWID;

CREATE TABLE memberships (
    user_id TEXT NOT NULL REFERENCES users (id),
    domain  TEXT NOT NULL REFERENCES domains (id),
    role    TEXT NOT NULL,
    PRIMARY KEY (user_id, domain)
) WITHOUT ROWID;
CREATE INDEX memberships_domain ON memberships (domain, user_id);

CREATE TABLE pats (
    id              TEXT      NOT NULL PRIMARY KEY,
    user_id         TEXT      NOT NULL REFERENCES users (id),
    name            TEXT      NOT NULL,
    name_held       BOOLEAN   NOT NULL CHECK (name_held IN (0, 1)), -- this is the user's live token of the name
    description     TEXT      NOT NULL,
    key_id          TEXT      NOT NULL,
    mac             BLOB      NOT NULL,
    created_at      TIMESTAMP NOT NULL,
    expires_at      TIMESTAMP NOT NULL,
    revoked_at      TIMESTAMP,
    rotated_to      TEXT      NOT NULL DEFAULT '', -- the successor, which may be deleted since
    last_used_at    TIMESTAMP,
    last_used_ip    TEXT      NOT NULL DEFAULT '',
    last_used_agent TEXT      NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE UNIQUE INDEX pats_name_held ON pats (user_id, name) WHERE name_held;
CREATE INDEX pats_list ON pats (user_id, created_at DESC, id DESC);
CREATE INDEX pats_rotated_to ON pats (rotated_to) WHERE rotated_to <> '';

CREATE TABLE scopes (
    pat_id      TEXT    NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL, -- the order in which they were given
    id          TEXT    NOT NULL,
    domain      TEXT    NOT NULL,
    entity_type TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    operation   TEXT    NOT NULL,
    PRIMARY KEY (pat_id, position) -- a token's scopes lie together
) WITHOUT ROWID;
CREATE UNIQUE INDEX scopes_id ON scopes (id);
CREATE UNIQUE INDEX scopes_once ON scopes (pat_id, domain, entity_type, entity, operation);

-- What changed, for those who cache facts. AUTOINCREMENT never uses a number
-- twice, pruned ones neither.
CREATE TABLE changes (
    seq  INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind TEXT      NOT NULL,
    key  TEXT      NOT NULL,
    key2 TEXT      NOT NULL DEFAULT '',
    at   TIMESTAMP NOT NULL
);
CREATE INDEX changes_at ON changes (at);
CREATE TABLE change_feed (
    one            INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    pruned_through INTEGER NOT NULL -- rows of changes up to this one are gone
);
INSERT INTO change_feed (one, pruned_through) VALUES (1, 0);

CREATE TABLE audit_events (
    id             INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    at             TIMESTAMP NOT NULL,
    actor_kind     TEXT      NOT NULL,
    actor_user_id  TEXT      NOT NULL,
    actor_token_id TEXT      NOT NULL,
    ip             TEXT      NOT NULL,
    user_agent     TEXT      NOT NULL,
    request_id     TEXT      NOT NULL,
    action         TEXT      NOT NULL,
    subject        TEXT      NOT NULL, -- kind:id
    detail         TEXT      NOT NULL  -- a JSON object of strings
);
CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_actor ON audit_events (actor_user_id, id);
CREATE INDEX audit_events_at ON audit_events (at);
-- +goose StatementBegin
CREATE TRIGGER audit_events_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_delete BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
-- +goose StatementEnd

CREATE TABLE sessions (
    token      TEXT      NOT NULL PRIMARY KEY, -- a hash
    user_id    TEXT      REFERENCES users (id),
    data       BLOB      NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended      BOOLEAN   NOT NULL CHECK (ended IN (0, 1)) -- kept until it expires, so that no late request revives it
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expires ON sessions (expires_at);
