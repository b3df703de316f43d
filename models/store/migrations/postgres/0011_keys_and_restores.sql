-- +goose Up
-- Which installation this is. Files that belong to a database name it.
CREATE TABLE installation (
    one          integer PRIMARY KEY CHECK (one = 1),
    id           text    COLLATE "C" NOT NULL,
    promoted_key text    COLLATE "C" NOT NULL DEFAULT '' -- the key that new tokens are hashed with; '': the first of each server's ring
);
INSERT INTO installation (one, id) VALUES (1, replace(CAST(gen_random_uuid() AS text), '-', ''));

-- The keys that tokens are hashed with, by what servers have reported of them.
CREATE TABLE token_keys (
    id          text        COLLATE "C" PRIMARY KEY,
    check_value text        NOT NULL, -- by which two secrets under one id are told apart
    added_at    timestamptz NOT NULL,
    retired_at  timestamptz
);
-- No token is made of a key that was retired, whatever a server believes that was
-- stopped in the middle of it.
-- +goose StatementBegin
CREATE FUNCTION patrol_refuse_retired_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM token_keys WHERE id = NEW.key_id AND retired_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the token key is retired' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER pats_retired_key BEFORE INSERT ON pats FOR EACH ROW EXECUTE FUNCTION patrol_refuse_retired_key();

-- The files of tombstones that servers write to, all of which a restore needs.
CREATE TABLE tombstone_files (
    id        text        COLLATE "C" PRIMARY KEY,
    server    text        NOT NULL, -- for people: host and path
    opened_at timestamptz NOT NULL
);

-- What each server that runs has in its key ring: ids and check values, no keys.
CREATE TABLE server_keys (
    server      text        COLLATE "C" NOT NULL, -- drawn at each start
    name        text        NOT NULL,             -- for people
    key_id      text        COLLATE "C" NOT NULL,
    check_value text        NOT NULL,
    current     boolean     NOT NULL,
    seen_at     timestamptz NOT NULL,             -- by the clock of the database
    PRIMARY KEY (server, key_id)
);
