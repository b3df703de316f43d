// Package models is the domain of Patrol: what a personal access token is, who
// owns it, what it may reach, and what a decision about it says. It depends on
// nothing outside the standard library, does no I/O and holds no state.
//
// # A token's life
//
// [Mint] draws a [Token]: a public id, a secret and a checksum that read as one
// word (`patrol_<id>_<secret><checksum>`). The caller shows the text once and
// stores only a [PAT] record that carries the keyed hash of id and secret,
// computed by a [Keyring]. From then on the plain text exists only with its
// owner.
//
// A presented text goes through [ParseToken], which checks shape and checksum
// without any look-up, and then through [Keyring.Verify], which compares hashes
// in constant time. Only after that may anyone look at the record's state.
//
// A PAT is [StatusActive] until it is revoked or its time is over. Rotation
// issues a successor with the same name and scopes; the old record names it in
// RotatedTo and ends at once or after a short grace. Dead records stay listed
// until their owner deletes them.
//
// # What a token reaches
//
// Each [Scope] names a domain, an entity type, an entity and an operation. A
// token narrows what its owner may do and never grants anything: whether a
// [Request] is allowed is judged by policy from the token, its owner, the domain
// and the membership, on current data at every call. The outcome is a
// [Decision] whose [Reason] codes are stable and documented.
//
// # Errors
//
// Everything here that refuses input does so with an [*Error]: a [Code] that
// programs read, a message that is safe to show to whoever sent the input, and
// for validation one [FieldError] per offending field.
package models
