-- +goose Up
-- The tokens of platform admins that a domain takes no more.
CREATE TABLE withdrawals (
    pat_id       text        COLLATE "C" NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    domain       text        COLLATE "C" NOT NULL REFERENCES domains (id),
    withdrawn_by text        COLLATE "C" NOT NULL, -- a user, '' for an operator
    reason       text        NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (pat_id, domain)
);

-- Who made a code, which ends with their power: a user, '' for an operator. Of codes
-- that are there nobody knows.
DELETE FROM one_time_codes;
ALTER TABLE one_time_codes ADD COLUMN made_by text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE one_time_codes ADD COLUMN made_at timestamptz;
CREATE INDEX one_time_codes_made_by ON one_time_codes (made_by);
CREATE INDEX approvals_by ON approvals (approved_by);
