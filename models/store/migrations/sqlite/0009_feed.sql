-- Who reads the change feed, and how a reader knows that it is the one it read.

-- +goose Up
-- No other row ever has the nonce: one that has the number and not this is of another
-- history of the database. SQLite adds no column whose default is drawn, so writers draw it.
ALTER TABLE changes ADD COLUMN nonce   TEXT    NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN awaited BOOLEAN NOT NULL DEFAULT 0 CHECK (awaited IN (0, 1)); -- somebody waits until all servers have seen it
UPDATE changes SET nonce = lower(hex(randomblob(16)));

-- The servers on this database that run, and those that went without a word.
CREATE TABLE servers (
    id            TEXT      NOT NULL PRIMARY KEY, -- drawn at each start
    name          TEXT      NOT NULL,             -- for people: host and address
    started_at    TIMESTAMP NOT NULL,
    last_seen     TIMESTAMP NOT NULL,             -- by the clock of the database
    max_staleness INTEGER   NOT NULL,             -- microseconds after which it trusts no cached fact
    acknowledged  TEXT      NOT NULL DEFAULT ''   -- how far it has read the feed, as of when somebody waited
) WITHOUT ROWID;
