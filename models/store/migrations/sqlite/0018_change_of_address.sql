-- Changes of email addresses: what a code confirms, and the addresses that users had before.

-- +goose Up
ALTER TABLE one_time_codes ADD COLUMN new_email TEXT; -- of a code that changes an address
CREATE INDEX one_time_codes_new_email ON one_time_codes (new_email) WHERE new_email IS NOT NULL;

-- They stay taken: nobody else gets one.
CREATE TABLE former_emails (
    email   TEXT NOT NULL PRIMARY KEY, -- a keyed hash once the user is anonymised
    user_id TEXT NOT NULL REFERENCES users (id),
    until   TIMESTAMP NOT NULL
) WITHOUT ROWID;
CREATE INDEX former_emails_user ON former_emails (user_id);
