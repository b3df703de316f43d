-- Events of the audit log may be removed by age (audit.retention), and people in them made
-- nameless, while a row stands here: for the length of a transaction, which alone sees it.

-- +goose Up
CREATE TABLE audit_upkeep (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1)
);
DROP TRIGGER audit_events_update;
DROP TRIGGER audit_events_delete;
-- +goose StatementBegin
CREATE TRIGGER audit_events_update BEFORE UPDATE ON audit_events WHEN NOT EXISTS (SELECT 1 FROM audit_upkeep)
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_delete BEFORE DELETE ON audit_events WHEN NOT EXISTS (SELECT 1 FROM audit_upkeep)
BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
-- +goose StatementEnd
