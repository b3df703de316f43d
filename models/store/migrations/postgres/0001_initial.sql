-- Keys sort by byte (COLLATE "C"), whatever the database's locale, so that
-- pages of a list are the same everywhere.

-- +goose Up
CREATE TABLE users (
    id            text        COLLATE "C" PRIMARY KEY,
    email         text        COLLATE "C" NOT NULL, -- normalized; never reused, since users are not deleted
    name          text        NOT NULL,
    password_hash text        NOT NULL, -- '' without a password
    admin         boolean     NOT NULL,
    disabled      boolean     NOT NULL,
    created_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email);

CREATE TABLE domains (
    id         text        COLLATE "C" PRIMARY KEY,
    name       text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('enabled', 'disabled', 'frozen')),
    created_at timestamptz NOT NULL
);

CREATE TABLE memberships (
    user_id text COLLATE "C" NOT NULL REFERENCES users (id),
    domain  text COLLATE "C" NOT NULL REFERENCES domains (id),
    role    text NOT NULL,
    PRIMARY KEY (user_id, domain)
);
CREATE INDEX memberships_domain ON memberships (domain, user_id);

CREATE TABLE pats (
    id              text        COLLATE "C" PRIMARY KEY,
    user_id         text        COLLATE "C" NOT NULL REFERENCES users (id),
    name            text        COLLATE "C" NOT NULL,
    name_held       boolean     NOT NULL, -- this is the user's live token of the name
    description     text        NOT NULL,
    key_id          text        NOT NULL,
    mac             bytea       NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    rotated_to      text        COLLATE "C" NOT NULL DEFAULT '', -- the successor, which may be deleted since
    last_used_at    timestamptz,
    last_used_ip    text        NOT NULL DEFAULT '',
    last_used_agent text        NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX pats_name_held ON pats (user_id, name) WHERE name_held;
CREATE INDEX pats_list ON pats (user_id, created_at DESC, id DESC);
CREATE INDEX pats_rotated_to ON pats (rotated_to) WHERE rotated_to <> '';

CREATE TABLE scopes (
    pat_id      text    COLLATE "C" NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    position    integer NOT NULL, -- the order in which they were given
    id          text    COLLATE "C" NOT NULL,
    domain      text    COLLATE "C" NOT NULL,
    entity_type text    COLLATE "C" NOT NULL,
    entity      text    COLLATE "C" NOT NULL,
    operation   text    COLLATE "C" NOT NULL,
    PRIMARY KEY (pat_id, position)
);
CREATE UNIQUE INDEX scopes_id ON scopes (id);
CREATE UNIQUE INDEX scopes_once ON scopes (pat_id, domain, entity_type, entity, operation);

-- What changed, for those who cache facts. Numbers become visible in their
-- order because writers take a lock before they draw one.
CREATE TABLE changes (
    seq  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text        NOT NULL,
    key  text        NOT NULL,
    key2 text        NOT NULL DEFAULT '',
    at   timestamptz NOT NULL
);
CREATE INDEX changes_at ON changes (at);
CREATE TABLE change_feed (
    one            integer PRIMARY KEY CHECK (one = 1),
    pruned_through bigint  NOT NULL -- rows of changes up to this one are gone
);
INSERT INTO change_feed (one, pruned_through) VALUES (1, 0);

CREATE TABLE audit_events (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    actor_kind     text        NOT NULL,
    actor_user_id  text        COLLATE "C" NOT NULL,
    actor_token_id text        COLLATE "C" NOT NULL,
    ip             text        NOT NULL,
    user_agent     text        NOT NULL,
    request_id     text        NOT NULL,
    action         text        NOT NULL,
    subject        text        COLLATE "C" NOT NULL, -- kind:id
    detail         jsonb       NOT NULL -- an object of strings
);
CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_actor ON audit_events (actor_user_id, id);
CREATE INDEX audit_events_at ON audit_events (at);
-- +goose StatementBegin
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_update BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

CREATE TABLE sessions (
    token      text        COLLATE "C" PRIMARY KEY, -- a hash
    user_id    text        COLLATE "C" REFERENCES users (id),
    data       bytea       NOT NULL,
    expires_at timestamptz NOT NULL,
    ended      boolean     NOT NULL -- kept until it expires, so that no late request revives it
);
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expires ON sessions (expires_at);
