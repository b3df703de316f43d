-- +goose Up
-- Who a user is at an OpenID Connect provider. Providers promise that a subject is
-- never given to somebody else.
CREATE TABLE identities (
    issuer     TEXT      NOT NULL,
    subject    TEXT      NOT NULL,
    user_id    TEXT      NOT NULL REFERENCES users (id),
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (issuer, subject)
) WITHOUT ROWID;
CREATE UNIQUE INDEX identities_user ON identities (user_id, issuer);
