-- The key with which addresses of anonymised users are hashed, so that they stay taken.

-- +goose Up
ALTER TABLE installation ADD COLUMN email_key text COLLATE "C" NOT NULL DEFAULT '';
UPDATE installation SET email_key = replace(CAST(gen_random_uuid() AS text) || CAST(gen_random_uuid() AS text), '-', '');
