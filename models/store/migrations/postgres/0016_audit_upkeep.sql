-- Events of the audit log may be removed by age (audit.retention), and people in them made
-- nameless, while a row stands here: for the length of a transaction, which alone sees it.

-- +goose Up
CREATE TABLE audit_upkeep (
    one integer PRIMARY KEY CHECK (one = 1)
);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'TRUNCATE' AND EXISTS (SELECT 1 FROM audit_upkeep) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'audit_events is append-only';
END;
$$;
-- +goose StatementEnd
