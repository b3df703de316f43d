-- Policies that are judged beside the one in force, what they would have decided
-- otherwise, and that one of them can be put in force.

-- +goose Up
CREATE TABLE policy_shadows (
    digest         TEXT        NOT NULL PRIMARY KEY, -- of what takes part in evaluation
    archive_digest TEXT        NOT NULL,             -- of the whole archive
    revision       TEXT        NOT NULL,
    source         TEXT        NOT NULL,
    signed_by      TEXT        NOT NULL,             -- id of a key, '' without
    result         TEXT        NOT NULL,             -- JSON, of the gate
    summary        TEXT        NOT NULL,             -- a JSON object of strings, for the audit log
    activated_at   TIMESTAMPTZ NOT NULL,             -- when it became the shadow, the last time
    archive        BYTEA       NOT NULL
);

CREATE TABLE policy_shadow_counts (
    digest   TEXT        NOT NULL REFERENCES policy_shadows (digest) ON DELETE CASCADE,
    base     TEXT        NOT NULL, -- revision of the policy that decided
    kind     TEXT        NOT NULL, -- how the shadow's decisions differ; 'same', 'error' or 'dropped' beside
    reasons  TEXT        NOT NULL, -- their codes, sorted, separated by spaces
    rules    TEXT        NOT NULL, -- JSON: the reasons with their rules
    count    BIGINT      NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at  TIMESTAMPTZ NOT NULL,
    examples TEXT        NOT NULL, -- JSON: the latest ones
    PRIMARY KEY (digest, base, kind, reasons)
);

-- Who put it there: a promotion's pin ends when the source holds the same.
ALTER TABLE policy_state ADD COLUMN promoted BOOLEAN NOT NULL DEFAULT FALSE;

-- More can happen to a policy than before. The names are the program's to check.
ALTER TABLE policy_events DROP CONSTRAINT policy_events_kind_check;
