-- +goose Up
-- What a domain demands of the tokens that reach it.
ALTER TABLE domains
    ADD COLUMN max_lifetime bigint  NOT NULL DEFAULT 0 CHECK (max_lifetime >= 0), -- seconds; 0: no limit
    ADD COLUMN no_wildcards boolean NOT NULL DEFAULT FALSE,
    ADD COLUMN approval     boolean NOT NULL DEFAULT FALSE;

-- A domain's consent to a token with the scopes that it has.
CREATE TABLE approvals (
    pat_id      text        COLLATE "C" NOT NULL REFERENCES pats (id) ON DELETE CASCADE,
    domain      text        COLLATE "C" NOT NULL REFERENCES domains (id),
    approved_by text        COLLATE "C" NOT NULL, -- a user, '' for an operator
    at          timestamptz NOT NULL,
    PRIMARY KEY (pat_id, domain)
);
CREATE INDEX scopes_domain ON scopes (domain, pat_id);

-- Who ended a token and why, for its owner to read.
ALTER TABLE pats
    ADD COLUMN revoked_by     text NOT NULL DEFAULT '',
    ADD COLUMN revoked_domain text NOT NULL DEFAULT '', -- the domain that a domain admin acted for
    ADD COLUMN revoked_reason text NOT NULL DEFAULT '';
