-- Which person and session at the identity provider a session here began with, so that the
-- provider can end it (OpenID Connect Back-Channel Logout 1.0).

-- +goose Up
ALTER TABLE sessions ADD COLUMN provider_subject text COLLATE "C"; -- a hash of issuer and subject; NULL: it did not begin there
ALTER TABLE sessions ADD COLUMN provider_session text COLLATE "C"; -- a hash of issuer and session; NULL: the provider named none
CREATE INDEX sessions_provider_subject ON sessions (provider_subject) WHERE provider_subject IS NOT NULL;
CREATE INDEX sessions_provider_session ON sessions (provider_session) WHERE provider_session IS NOT NULL;

-- Of a code that begins a session: those of the session that made it.
ALTER TABLE one_time_codes ADD COLUMN provider_subject text COLLATE "C";
ALTER TABLE one_time_codes ADD COLUMN provider_session text COLLATE "C";

-- The logout tokens that were obeyed, each once.
CREATE TABLE logout_tokens (
    hash       text        COLLATE "C" NOT NULL PRIMARY KEY, -- of issuer and jti
    expires_at timestamptz NOT NULL                          -- no token is taken so long after it was made
);
