-- When people last came from their provider, and which session is which there.

-- +goose Up
ALTER TABLE identities ADD COLUMN last_used_at TIMESTAMP; -- NULL: not since it is kept
ALTER TABLE users      ADD COLUMN provider_at  TIMESTAMP; -- when the user last came from a provider
UPDATE users SET provider_at = (SELECT MAX(i.created_at) FROM identities i WHERE i.user_id = users.id);

-- The provider's own name of the session, by which it ends it (OpenID Connect Back-Channel Logout 1.0).
ALTER TABLE sessions ADD COLUMN provider_session TEXT; -- a hash; NULL: there is none
CREATE INDEX sessions_provider_session ON sessions (provider_session) WHERE provider_session IS NOT NULL;

-- Of a code that begins a session: that of whoever made it; NULL: it did not begin at a provider.
ALTER TABLE one_time_codes ADD COLUMN provider_session TEXT;
