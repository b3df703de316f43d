// Package authz is the one place where Patrol decides. Every surface (the
// authorize endpoint, the gateway, a proxy's question) translates what it was
// sent into a [Call] and enters here; nothing else decides.
//
// # What happens in a call
//
//  1. The token's shape and checksum are checked. Nothing is looked up for
//     garbage.
//  2. The token's record comes from the cache, else from the store, and the
//     secret is verified against it. An unknown id costs one HMAC like a known
//     one and gets the same answer as a wrong secret.
//  3. Owner, domain and membership are gathered.
//  4. The policy judges the facts. The token's part of its input was prepared
//     when the record was cached.
//  5. The decision is counted, and the token's use is noted for later.
//
// No step returns an error: whatever goes wrong is a [models.Decision] that
// denies, with reason `unavailable` or `policy_error`, and its cause in the log
// under the decision's id.
//
// # How current the facts are
//
// Facts are cached for at most [Config.FactTTL] and dropped by the change feed:
// this process's own writes through [Authorizer.Apply], before the write is
// answered; everybody else's by polling in [Authorizer.Run]. An entry that is
// invalidated while it is being loaded is loaded again. A process that could not
// read the feed for [Config.MaxStaleness] reads the store at every call until it
// can. When the feed does not go on where it was left, the cache begins anew, and what
// was being loaded into the old one is not kept.
//
// A decision that took so long that its facts may have changed before
// [Config.MaxStaleness] is made again on what the store says, or withheld: a process
// that stood still does not answer by what it knew before. With [Call.Full] the facts
// come from the store at once; the secret is verified before that, and so many such
// decisions are made at a time.
//
// # Guessing
//
// Checksums are public, so well-formed garbage is cheap to make. Ids that the
// store does not know are remembered in a small cache of their own, where they
// push out no real record. Look-ups of ids that never verified here run in a
// bounded number at a time, and addresses that fail too often share a narrower
// lane. Such callers wait, address by address in turn, and no longer than a look-up
// may take; who waits in vain is refused as `unavailable`. Tokens that have verified
// here never wait.
package authz
