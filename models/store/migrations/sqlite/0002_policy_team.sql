-- +goose Up
ALTER TABLE users ADD COLUMN policy BOOLEAN NOT NULL DEFAULT 0 CHECK (policy IN (0, 1)); -- of the policy team
