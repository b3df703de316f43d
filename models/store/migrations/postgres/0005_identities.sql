-- +goose Up
-- Who a user is at an OpenID Connect provider. Providers promise that a subject is
-- never given to somebody else.
CREATE TABLE identities (
    issuer     text        COLLATE "C" NOT NULL,
    subject    text        COLLATE "C" NOT NULL,
    user_id    text        COLLATE "C" NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE UNIQUE INDEX identities_user ON identities (user_id, issuer);
