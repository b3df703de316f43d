-- The change feed without a lock that all writers share, and who reads it.

-- +goose Up
ALTER TABLE changes
    -- Of the transaction that wrote it: readers go by which transactions they saw the
    -- end of, since numbers become visible in any order.
    ADD COLUMN xid     xid8    NOT NULL DEFAULT pg_current_xact_id(),
    -- No other row ever has it: one that has the number and not this is of another
    -- history of the database.
    ADD COLUMN nonce   uuid    NOT NULL DEFAULT gen_random_uuid(),
    -- Somebody waits until all servers have seen it.
    ADD COLUMN awaited boolean NOT NULL DEFAULT FALSE;
CREATE INDEX changes_xid ON changes (xid);

ALTER TABLE change_feed
    ADD COLUMN pruned_xid xid8    NOT NULL DEFAULT '0',   -- rows of transactions up to this one may be gone
    ADD COLUMN locked     boolean NOT NULL DEFAULT FALSE; -- writers take turns, for servers of before, which go by the numbers
-- A database that nobody used yet has no such servers.
UPDATE change_feed SET locked = pruned_through > 0 OR EXISTS (SELECT 1 FROM changes) OR EXISTS (SELECT 1 FROM users);

-- The servers on this database that run, and those that went without a word.
CREATE TABLE servers (
    id            text        COLLATE "C" PRIMARY KEY, -- drawn at each start
    name          text        NOT NULL,                -- for people: host and address
    started_at    timestamptz NOT NULL,
    last_seen     timestamptz NOT NULL,                -- by the clock of the database
    max_staleness bigint      NOT NULL,                -- microseconds after which it trusts no cached fact
    acknowledged  text        NOT NULL DEFAULT ''      -- how far it has read the feed, as of when somebody waited
);
