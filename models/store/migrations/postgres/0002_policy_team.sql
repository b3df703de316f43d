-- +goose Up
ALTER TABLE users ADD COLUMN policy BOOLEAN NOT NULL DEFAULT FALSE; -- of the policy team
