-- The last sign-in of each user at the provider.

-- +goose Up
ALTER TABLE identities ADD COLUMN last_used_at timestamptz; -- NULL: not since it is kept
ALTER TABLE users      ADD COLUMN provider_at  timestamptz; -- when the user last came from a provider
UPDATE users SET provider_at = (SELECT MAX(i.created_at) FROM identities i WHERE i.user_id = users.id);
