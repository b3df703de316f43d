-- What pages of lists go by, so that none reads more than it shows.

-- +goose Up
CREATE INDEX pats_created ON pats (created_at DESC, id DESC);
CREATE INDEX pats_expiring ON pats (expires_at, id) WHERE revoked_at IS NULL;
CREATE INDEX pats_revoked ON pats (expires_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX pats_key ON pats (key_id);
CREATE INDEX users_admin ON users (id) WHERE admin;
CREATE INDEX audit_events_action ON audit_events (action, id);

-- The domains that the scopes of each token name, by when it was made. Triggers keep it.
CREATE TABLE domain_pats (
    domain     TEXT      NOT NULL, -- '*' for any
    created_at TIMESTAMP NOT NULL,
    pat_id     TEXT      NOT NULL,
    PRIMARY KEY (domain, created_at, pat_id)
) WITHOUT ROWID;
INSERT INTO domain_pats (domain, created_at, pat_id)
    SELECT DISTINCT s.domain, p.created_at, p.id FROM scopes s JOIN pats p ON p.id = s.pat_id;

-- +goose StatementBegin
CREATE TRIGGER scopes_added AFTER INSERT ON scopes
BEGIN
    INSERT INTO domain_pats (domain, created_at, pat_id)
        SELECT NEW.domain, p.created_at, p.id FROM pats p WHERE p.id = NEW.pat_id
            AND NOT EXISTS (SELECT 1 FROM domain_pats d WHERE d.domain = NEW.domain AND d.created_at = p.created_at AND d.pat_id = p.id);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER scopes_removed AFTER DELETE ON scopes
BEGIN
    DELETE FROM domain_pats WHERE domain = OLD.domain AND pat_id = OLD.pat_id
        AND created_at = (SELECT created_at FROM pats WHERE id = OLD.pat_id)
        AND NOT EXISTS (SELECT 1 FROM scopes s WHERE s.pat_id = OLD.pat_id AND s.domain = OLD.domain);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER pats_removed BEFORE DELETE ON pats
BEGIN
    DELETE FROM domain_pats WHERE pat_id = OLD.id AND created_at = OLD.created_at
        AND domain IN (SELECT s.domain FROM scopes s WHERE s.pat_id = OLD.id);
END;
-- +goose StatementEnd
