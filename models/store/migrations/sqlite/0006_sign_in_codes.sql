-- +goose Up
-- When whoever made a code that begins a session gave their credentials.
ALTER TABLE one_time_codes ADD COLUMN signed_in_at TIMESTAMP;
