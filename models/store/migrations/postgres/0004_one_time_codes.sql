-- +goose Up
-- Codes that people are given to get in once. A newer one of the same purpose
-- takes the place of the one before.
CREATE TABLE one_time_codes (
    user_id    text        COLLATE "C" NOT NULL REFERENCES users (id),
    purpose    text        COLLATE "C" NOT NULL,
    hash       text        COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, purpose)
);
CREATE UNIQUE INDEX one_time_codes_hash ON one_time_codes (hash);
CREATE INDEX one_time_codes_expires ON one_time_codes (expires_at);
