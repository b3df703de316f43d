CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
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
CREATE TABLE sessions (
    token      TEXT      NOT NULL PRIMARY KEY, -- a hash
    user_id    TEXT      REFERENCES users (id),
    data       BLOB      NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended      BOOLEAN   NOT NULL CHECK (ended IN (0, 1)) -- kept until it expires, so that no late request revives it
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expires ON sessions (expires_at);
INSERT INTO goose_db_version VALUES (1, 0, 1, '2026-03-01 12:00:00');
INSERT INTO goose_db_version VALUES (2, 1, 1, '2026-03-01 12:00:00');
INSERT INTO users VALUES ('ann', 'ann@example.org', 'Ann', '$argon2id$x', 1, 0, 1772366400250000);
INSERT INTO domains VALUES ('acme', 'Acme Inc.', 'enabled', 1772366400250000);
INSERT INTO memberships VALUES ('ann', 'acme', 'admin');
INSERT INTO pats VALUES ('aaaaaaaaaaaaaaaa', 'ann', 'ci', 0, 'it''s
old', 'k1', X'0001feff', 1772366400250000, 1772370000000000, 1772366460250000, 'bbbbbbbbbbbbbbbb', 1772366402250000, '192.0.2.7', 'curl/8');
INSERT INTO pats VALUES ('bbbbbbbbbbbbbbbb', 'ann', 'ci', 1, 'it''s
old', 'k1', X'02', 1772366460250000, 1772370000000000, NULL, '', NULL, '', '');
INSERT INTO scopes VALUES ('aaaaaaaaaaaaaaaa', 0, 's1', 'acme', 'models', 'llama3:8b', 'read');
INSERT INTO scopes VALUES ('aaaaaaaaaaaaaaaa', 1, 's0', '*', 'datasets', '*', 'write');
INSERT INTO scopes VALUES ('bbbbbbbbbbbbbbbb', 0, 'HtiaPKAcuKPA1NPH', 'acme', 'models', 'llama3:8b', 'read');
INSERT INTO scopes VALUES ('bbbbbbbbbbbbbbbb', 1, 'QltlR6jiyXIOMuvh', '*', 'datasets', '*', 'write');
INSERT INTO changes VALUES (1, 'user', 'ann', '', 1772366400250000);
INSERT INTO changes VALUES (2, 'domain', 'acme', '', 1772366400250000);
INSERT INTO changes VALUES (3, 'membership', 'ann', 'acme', 1772366400250000);
INSERT INTO changes VALUES (4, 'token', 'aaaaaaaaaaaaaaaa', '', 1772366400250000);
INSERT INTO changes VALUES (5, 'token', 'aaaaaaaaaaaaaaaa', '', 1772366460250000);
INSERT INTO changes VALUES (6, 'token', 'bbbbbbbbbbbbbbbb', '', 1772366460250000);
INSERT INTO changes VALUES (7, 'domain', 'acme', '', 1772366460250000);
INSERT INTO change_feed VALUES (1, 0);
INSERT INTO audit_events VALUES (1, 1772366400250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'user.create', 'user:ann', '{"admin":"true","email":"ann@example.org"}');
INSERT INTO audit_events VALUES (2, 1772366400250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'domain.create', 'domain:acme', '{"name":"Acme","status":"enabled"}');
INSERT INTO audit_events VALUES (3, 1772366400250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'member.set', 'membership:acme/ann', '{"role":"admin"}');
INSERT INTO audit_events VALUES (4, 1772366400250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'pat.create', 'pat:aaaaaaaaaaaaaaaa', '{"expires_at":"2026-03-01T13:00:00Z","name":"ci","scopes":"acme:models:llama3:8b:read *:datasets:*:write","user_id":"ann"}');
INSERT INTO audit_events VALUES (5, 1772366460250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'pat.rotate', 'pat:aaaaaaaaaaaaaaaa', '{"grace":"0s","rotated_to":"bbbbbbbbbbbbbbbb","user_id":"ann"}');
INSERT INTO audit_events VALUES (6, 1772366460250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'pat.create', 'pat:bbbbbbbbbbbbbbbb', '{"expires_at":"2026-03-01T13:00:00Z","name":"ci","scopes":"acme:models:llama3:8b:read *:datasets:*:write","user_id":"ann"}');
INSERT INTO audit_events VALUES (7, 1772366460250000, 'user', 'ann', '', '192.0.2.7', 'curl/8', 'r1', 'domain.rename', 'domain:acme', '{"from":"Acme","to":"Acme Inc."}');
UPDATE sqlite_sequence SET seq = 2 WHERE name = 'goose_db_version';
UPDATE sqlite_sequence SET seq = 7 WHERE name = 'audit_events';
UPDATE sqlite_sequence SET seq = 7 WHERE name = 'changes';
CREATE TRIGGER audit_events_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
CREATE TRIGGER audit_events_delete BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
