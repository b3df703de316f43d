-- Which policy is in force, the last ones that were, and what happened to
-- candidates.

-- +goose Up
CREATE TABLE policy_bundles (
    digest         TEXT      NOT NULL PRIMARY KEY, -- of what takes part in evaluation
    archive_digest TEXT      NOT NULL,             -- of the whole archive
    revision       TEXT      NOT NULL,
    source         TEXT      NOT NULL,
    signed_by      TEXT      NOT NULL,             -- id of a key, '' without
    result         TEXT      NOT NULL,             -- JSON, of the gate
    summary        TEXT      NOT NULL,             -- a JSON object of strings, for the audit log
    activated_at   TIMESTAMP NOT NULL,             -- the last time
    archive        BLOB      NOT NULL
);
CREATE INDEX policy_bundles_activated ON policy_bundles (activated_at);

CREATE TABLE policy_events (
    id             INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    at             TIMESTAMP NOT NULL,
    kind           TEXT      NOT NULL CHECK (kind IN ('activate', 'refuse', 'rollback', 'resume')),
    digest         TEXT      NOT NULL, -- '' if it could not be read
    archive_digest TEXT      NOT NULL,
    revision       TEXT      NOT NULL,
    source         TEXT      NOT NULL,
    signed_by      TEXT      NOT NULL,
    result         TEXT      NOT NULL,
    actor_kind     TEXT      NOT NULL,
    actor_user_id  TEXT      NOT NULL
);

CREATE TABLE policy_state (
    one            INTEGER   NOT NULL PRIMARY KEY CHECK (one = 1),
    digest         TEXT      NOT NULL, -- '' if no policy was ever in force
    archive_digest TEXT      NOT NULL,
    revision       TEXT      NOT NULL,
    source         TEXT      NOT NULL,
    since          TIMESTAMP NOT NULL,
    pinned         BOOLEAN   NOT NULL CHECK (pinned IN (0, 1)),
    resumed        INTEGER   NOT NULL -- how often servers were told to follow their source again
);
INSERT INTO policy_state (one, digest, archive_digest, revision, source, since, pinned, resumed) VALUES (1, '', '', '', '', 0, 0, 0);
