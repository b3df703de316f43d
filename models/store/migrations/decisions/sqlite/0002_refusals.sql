-- Refusals of those who showed no token that verifies are counted by address and
-- minute, whether they are kept or not; and the log knows how far back it is complete.

-- +goose Up
CREATE TABLE decision_refusals (
    minute    INTEGER NOT NULL, -- since 1970 (UTC)
    span      INTEGER NOT NULL, -- minutes that are added up here: 1, or 60 of old ones
    address   TEXT    NOT NULL, -- or network; '' where there were too many to tell apart
    reason    TEXT    NOT NULL,
    calls     INTEGER NOT NULL,
    decisions INTEGER NOT NULL,
    kept      INTEGER NOT NULL, -- of these, in decisions
    PRIMARY KEY (minute, span, address, reason)
) WITHOUT ROWID;

-- Since when the log is complete where it was cut for want of room (NULL: it never
-- was), and how many decisions there were at counted_at.
ALTER TABLE decision_log ADD COLUMN verified_cut TIMESTAMP;
ALTER TABLE decision_log ADD COLUMN refused_cut TIMESTAMP;
ALTER TABLE decision_log ADD COLUMN verified_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN refused_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN busiest TEXT    NOT NULL DEFAULT '';
ALTER TABLE decision_log ADD COLUMN busiest_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN counted_at TIMESTAMP;
