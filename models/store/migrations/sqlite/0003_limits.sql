-- +goose Up
-- What a domain demands of the tokens that reach it.
ALTER TABLE domains ADD COLUMN max_lifetime INTEGER NOT NULL DEFAULT 0 CHECK (max_lifetime >= 0); -- seconds; 0: no limit
ALTER TABLE domains ADD COLUMN no_wildcards BOOLEAN NOT NULL DEFAULT FALSE CHECK (no_wildcards IN (0, 1));
ALTER TABLE domains ADD COLUMN approval BOOLEAN NOT NULL DEFAULT FALSE CHECK (approval IN (0, 1));

-- A domain's consent to a token with the scopes that it has.
CREATE TABLE approvals (
    pat_id      TEXT      NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    domain      TEXT      NOT NULL REFERENCES domains (id),
    approved_by TEXT      NOT NULL, -- a user, '' for an operator
    at          TIMESTAMP NOT NULL,
    PRIMARY KEY (pat_id, domain)
) WITHOUT ROWID;
CREATE INDEX scopes_domain ON scopes (domain, pat_id);

-- Who ended a token and why, for its owner to read.
ALTER TABLE pats ADD COLUMN revoked_by TEXT NOT NULL DEFAULT '';
ALTER TABLE pats ADD COLUMN revoked_domain TEXT NOT NULL DEFAULT ''; -- the domain that a domain admin acted for
ALTER TABLE pats ADD COLUMN revoked_reason TEXT NOT NULL DEFAULT '';
