-- The decision log. It may lie in a database of its own, so it refers to no other
-- table. Points in time are whole microseconds since 1970 (UTC).

-- +goose Up
CREATE TABLE decisions (
    seq             INTEGER   NOT NULL PRIMARY KEY,
    id              TEXT      NOT NULL, -- sorts by time
    at              TIMESTAMP NOT NULL,
    took            INTEGER   NOT NULL, -- nanoseconds
    surface         TEXT      NOT NULL,
    outcome         TEXT      NOT NULL,
    reason          TEXT      NOT NULL, -- the first one's code, '' if allowed
    revision        TEXT      NOT NULL,
    token_id        TEXT      NOT NULL, -- '' unless the secret verified; likewise the user
    user_id         TEXT      NOT NULL,
    domain          TEXT      NOT NULL, -- '' where a request could not be read; likewise the next three
    entity_type     TEXT      NOT NULL,
    entity          TEXT      NOT NULL,
    operation       TEXT      NOT NULL,
    scope_id        TEXT      NOT NULL,
    requested_by    TEXT      NOT NULL,
    input_now       INTEGER,            -- NULL: there is no input
    token_fact      BLOB,               -- of decision_facts; NULL: absent
    user_fact       BLOB,
    domain_fact     BLOB,
    membership_fact BLOB,
    detail          TEXT      NOT NULL  -- a JSON object of what is rare, '' if nothing is
);
CREATE UNIQUE INDEX decisions_id ON decisions (id);
CREATE INDEX decisions_token ON decisions (token_id, id);
CREATE INDEX decisions_user ON decisions (user_id, id);
CREATE INDEX decisions_refused ON decisions (id) WHERE outcome <> 'allow';

-- What decisions were made on, each text once.
CREATE TABLE decision_facts (
    key     BLOB      NOT NULL PRIMARY KEY,
    body    TEXT      NOT NULL,
    used_at TIMESTAMP NOT NULL -- within an hour of the last decision that refers to it
) WITHOUT ROWID;
CREATE INDEX decision_facts_used ON decision_facts (used_at);

-- Counts by UTC day, which outlive the decisions.
CREATE TABLE decision_outcomes (
    day      TIMESTAMP NOT NULL,
    token_id TEXT      NOT NULL,
    outcome  TEXT      NOT NULL,
    reason   TEXT      NOT NULL,
    count    INTEGER   NOT NULL,
    PRIMARY KEY (token_id, day, outcome, reason)
) WITHOUT ROWID;
CREATE INDEX decision_outcomes_day ON decision_outcomes (day);

CREATE TABLE decision_uses (
    day         TIMESTAMP NOT NULL,
    token_id    TEXT      NOT NULL,
    scope_id    TEXT      NOT NULL,
    domain      TEXT      NOT NULL,
    entity_type TEXT      NOT NULL,
    entity      TEXT      NOT NULL,
    operation   TEXT      NOT NULL,
    count       INTEGER   NOT NULL,
    last_at     TIMESTAMP NOT NULL,
    PRIMARY KEY (token_id, day, scope_id, domain, entity_type, entity, operation)
) WITHOUT ROWID;
CREATE INDEX decision_uses_day ON decision_uses (day);

CREATE TABLE decision_days (
    day      TIMESTAMP NOT NULL PRIMARY KEY,
    recorded INTEGER   NOT NULL,
    dropped  INTEGER   NOT NULL -- decisions that were made and not taken down
) WITHOUT ROWID;

CREATE TABLE decision_log (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    hash_key BLOB    NOT NULL -- of masks that hash
);
INSERT INTO decision_log (one, hash_key) VALUES (1, randomblob(32));
