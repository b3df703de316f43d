-- A request may ask several questions. Their decisions are found together by its id.

-- +goose Up
ALTER TABLE decisions ADD COLUMN request_id TEXT NOT NULL DEFAULT ''; -- '' of those made before, or for none
CREATE INDEX decisions_request ON decisions (request_id, id) WHERE request_id <> '';
