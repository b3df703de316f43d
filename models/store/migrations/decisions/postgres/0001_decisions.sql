-- The decision log. It may lie in a database of its own, so it refers to no other
-- table. Ids are compared byte by byte, as they sort by time.

-- +goose Up
CREATE TABLE decisions (
    id              text      COLLATE "C" PRIMARY KEY, -- sorts by time
    at              timestamptz NOT NULL,
    took            bigint    NOT NULL, -- nanoseconds
    surface         text      NOT NULL,
    outcome         text      NOT NULL,
    reason          text      NOT NULL, -- the first one's code, '' if allowed
    revision        text      NOT NULL,
    token_id        text      COLLATE "C" NOT NULL, -- '' unless the secret verified; likewise the user
    user_id         text      COLLATE "C" NOT NULL,
    domain          text      NOT NULL, -- '' where a request could not be read; likewise the next three
    entity_type     text      NOT NULL,
    entity          text      NOT NULL,
    operation       text      NOT NULL,
    scope_id        text      NOT NULL,
    requested_by    text      NOT NULL,
    input_now       bigint,             -- NULL: there is no input
    token_fact      bytea,               -- of decision_facts; NULL: absent
    user_fact       bytea,
    domain_fact     bytea,
    membership_fact bytea,
    detail          text      NOT NULL  -- a JSON object of what is rare, '' if nothing is
);
CREATE INDEX decisions_token ON decisions (token_id, id);
CREATE INDEX decisions_user ON decisions (user_id, id);
CREATE INDEX decisions_refused ON decisions (id) WHERE outcome <> 'allow';

-- What decisions were made on, each text once.
CREATE TABLE decision_facts (
    key     bytea     NOT NULL PRIMARY KEY,
    body    text      NOT NULL,
    used_at timestamptz NOT NULL -- within an hour of the last decision that refers to it
);
CREATE INDEX decision_facts_used ON decision_facts (used_at);

-- Counts by UTC day, which outlive the decisions.
CREATE TABLE decision_outcomes (
    day      timestamptz NOT NULL,
    token_id text      COLLATE "C" NOT NULL,
    outcome  text      NOT NULL,
    reason   text      NOT NULL,
    count    bigint    NOT NULL,
    PRIMARY KEY (token_id, day, outcome, reason)
);
CREATE INDEX decision_outcomes_day ON decision_outcomes (day);

CREATE TABLE decision_uses (
    day         timestamptz NOT NULL,
    token_id    text      COLLATE "C" NOT NULL,
    scope_id    text      NOT NULL,
    domain      text      NOT NULL,
    entity_type text      NOT NULL,
    entity      text      NOT NULL,
    operation   text      NOT NULL,
    count       bigint    NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (token_id, day, scope_id, domain, entity_type, entity, operation)
);
CREATE INDEX decision_uses_day ON decision_uses (day);

CREATE TABLE decision_days (
    day      timestamptz NOT NULL PRIMARY KEY,
    recorded bigint    NOT NULL,
    dropped  bigint    NOT NULL -- decisions that were made and not taken down
);

CREATE TABLE decision_log (
    one      integer NOT NULL PRIMARY KEY CHECK (one = 1),
    hash_key bytea   NOT NULL -- of masks that hash
);
INSERT INTO decision_log (one, hash_key) VALUES (1, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
