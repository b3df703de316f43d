-- What pages of lists go by, so that none reads more than it shows.

-- +goose Up
CREATE INDEX pats_created ON pats (created_at DESC, id DESC);
CREATE INDEX pats_expiring ON pats (expires_at, id) WHERE revoked_at IS NULL;
CREATE INDEX pats_revoked ON pats (expires_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX pats_key ON pats (key_id);
CREATE INDEX users_admin ON users (id) WHERE admin;
CREATE INDEX audit_events_action ON audit_events (action, id);

-- The domains that the scopes of each token name, by when it was made. Triggers keep it,
-- also for servers of a version before.
CREATE TABLE domain_pats (
    domain     text        COLLATE "C" NOT NULL, -- '*' for any
    created_at timestamptz NOT NULL,
    pat_id     text        COLLATE "C" NOT NULL,
    PRIMARY KEY (domain, created_at, pat_id)
);
INSERT INTO domain_pats (domain, created_at, pat_id)
    SELECT DISTINCT s.domain, p.created_at, p.id FROM scopes s JOIN pats p ON p.id = s.pat_id;

-- +goose StatementBegin
CREATE FUNCTION patrol_scope_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO domain_pats (domain, created_at, pat_id)
        SELECT NEW.domain, p.created_at, p.id FROM pats p WHERE p.id = NEW.pat_id
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION patrol_scope_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM scopes s WHERE s.pat_id = OLD.pat_id AND s.domain = OLD.domain) THEN
        DELETE FROM domain_pats d USING pats p WHERE p.id = OLD.pat_id
            AND d.domain = OLD.domain AND d.created_at = p.created_at AND d.pat_id = p.id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION patrol_pat_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM domain_pats d USING scopes s
        WHERE s.pat_id = OLD.id AND d.domain = s.domain AND d.created_at = OLD.created_at AND d.pat_id = OLD.id;
    RETURN OLD;
END $$;
-- +goose StatementEnd
CREATE TRIGGER scopes_added AFTER INSERT ON scopes FOR EACH ROW EXECUTE FUNCTION patrol_scope_added();
CREATE TRIGGER scopes_removed AFTER DELETE ON scopes FOR EACH ROW EXECUTE FUNCTION patrol_scope_removed();
CREATE TRIGGER pats_removed BEFORE DELETE ON pats FOR EACH ROW EXECUTE FUNCTION patrol_pat_removed();
