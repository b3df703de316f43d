-- Pages of one domain's decisions.

-- +goose Up
CREATE INDEX decisions_domain ON decisions (domain, id);
