-- The last sign-in of each user at the provider.

-- +goose Up
ALTER TABLE identities ADD COLUMN last_used_at TIMESTAMP; -- NULL: not since it is kept
ALTER TABLE users      ADD COLUMN provider_at  TIMESTAMP; -- when the user last came from a provider
-- Nobody knows when people came before: their absence counts from the upgrade.
UPDATE users SET provider_at = strftime('%Y-%m-%d %H:%M:%S+00:00', 'now') WHERE id IN (SELECT user_id FROM identities);
