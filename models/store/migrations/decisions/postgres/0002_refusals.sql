-- Refusals of those who showed no token that verifies are counted by address and
-- minute, whether they are kept or not; and the log knows how far back it is complete.

-- +goose Up
CREATE TABLE decision_refusals (
    minute    bigint  NOT NULL, -- since 1970 (UTC)
    span      bigint  NOT NULL, -- minutes that are added up here: 1, or 60 of old ones
    address   text    NOT NULL, -- or network; '' where there were too many to tell apart
    reason    text    NOT NULL,
    calls     bigint  NOT NULL,
    decisions bigint  NOT NULL,
    kept      bigint  NOT NULL, -- of these, in decisions
    PRIMARY KEY (minute, span, address, reason)
);

-- Since when the log is complete where it was cut for want of room (NULL: it never
-- was), and how many decisions there were at counted_at.
ALTER TABLE decision_log ADD COLUMN verified_cut timestamptz;
ALTER TABLE decision_log ADD COLUMN refused_cut timestamptz;
ALTER TABLE decision_log ADD COLUMN verified_rows bigint  NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN refused_rows bigint  NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN busiest text    NOT NULL DEFAULT '';
ALTER TABLE decision_log ADD COLUMN busiest_rows bigint  NOT NULL DEFAULT 0;
ALTER TABLE decision_log ADD COLUMN counted_at timestamptz;
