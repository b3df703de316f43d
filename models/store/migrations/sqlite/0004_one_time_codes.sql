-- +goose Up
-- Codes that people are given to get in once. A newer one of the same purpose
-- takes the place of the one before.
CREATE TABLE one_time_codes (
    user_id    TEXT      NOT NULL REFERENCES users (id),
    purpose    TEXT      NOT NULL,
    hash       TEXT      NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    PRIMARY KEY (user_id, purpose)
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_time_codes_hash ON one_time_codes (hash);
CREATE INDEX one_time_codes_expires ON one_time_codes (expires_at);
