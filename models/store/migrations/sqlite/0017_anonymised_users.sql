-- The key with which addresses of anonymised users are hashed, so that they stay taken.

-- +goose Up
ALTER TABLE installation ADD COLUMN email_key TEXT NOT NULL DEFAULT '';
UPDATE installation SET email_key = lower(hex(randomblob(32)));
