-- The last sign-in of each user at the provider.

-- +goose Up
ALTER TABLE identities ADD COLUMN last_used_at timestamptz; -- NULL: not since it is kept
ALTER TABLE users      ADD COLUMN provider_at  timestamptz; -- when the user last came from a provider
-- Nobody knows when people came before: their absence counts from the upgrade.
UPDATE users SET provider_at = date_trunc('second', now()) WHERE id IN (SELECT user_id FROM identities);
