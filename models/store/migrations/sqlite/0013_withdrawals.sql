-- +goose Up
-- The tokens of platform admins that a domain takes no more.
CREATE TABLE withdrawals (
    pat_id       TEXT      NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    domain       TEXT      NOT NULL REFERENCES domains (id),
    withdrawn_by TEXT      NOT NULL, -- a user, '' for an operator
    reason       TEXT      NOT NULL,
    at           TIMESTAMP NOT NULL,
    PRIMARY KEY (pat_id, domain)
) WITHOUT ROWID;

-- Who made a code, which ends with their power: a user, '' for an operator. Of codes
-- that are there nobody knows.
DELETE FROM one_time_codes;
ALTER TABLE one_time_codes ADD COLUMN made_by TEXT NOT NULL DEFAULT '';
ALTER TABLE one_time_codes ADD COLUMN made_at TIMESTAMP;
CREATE INDEX one_time_codes_made_by ON one_time_codes (made_by);
CREATE INDEX approvals_by ON approvals (approved_by);
