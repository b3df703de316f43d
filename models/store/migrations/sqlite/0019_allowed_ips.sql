-- +goose Up
-- The addresses and ranges from which a token may be used, with spaces between them; '': from everywhere.
ALTER TABLE pats ADD COLUMN allowed_ips TEXT NOT NULL DEFAULT '';
