-- +goose Up
-- Which installation this is. Files that belong to a database name it.
CREATE TABLE installation (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id  TEXT    NOT NULL,
    promoted_key TEXT NOT NULL DEFAULT '' -- the key that new tokens are hashed with; '': the first of each server's ring
);
INSERT INTO installation (one, id) VALUES (1, lower(hex(randomblob(16))));

-- The keys that tokens are hashed with, by what servers have reported of them.
CREATE TABLE token_keys (
    id          TEXT      NOT NULL PRIMARY KEY,
    check_value TEXT      NOT NULL, -- by which two secrets under one id are told apart
    added_at    TIMESTAMP NOT NULL,
    retired_at  TIMESTAMP
) WITHOUT ROWID;
-- No token is made of a key that was retired, whatever a server believes that was
-- stopped in the middle of it.
-- +goose StatementBegin
CREATE TRIGGER pats_retired_key BEFORE INSERT ON pats
WHEN EXISTS (SELECT 1 FROM token_keys WHERE id = NEW.key_id AND retired_at IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'the token key is retired');
END;
-- +goose StatementEnd

-- The files of tombstones that servers write to, all of which a restore needs.
CREATE TABLE tombstone_files (
    id        TEXT      NOT NULL PRIMARY KEY,
    server    TEXT      NOT NULL, -- for people: host and path
    opened_at TIMESTAMP NOT NULL
) WITHOUT ROWID;

-- What each server that runs has in its key ring: ids and check values, no keys.
CREATE TABLE server_keys (
    server      TEXT      NOT NULL, -- drawn at each start
    name        TEXT      NOT NULL, -- for people
    key_id      TEXT      NOT NULL,
    check_value TEXT      NOT NULL,
    current     BOOLEAN   NOT NULL CHECK (current IN (0, 1)),
    seen_at     TIMESTAMP NOT NULL,
    PRIMARY KEY (server, key_id)
) WITHOUT ROWID;
