// Package store keeps Patrol's records in SQLite or PostgreSQL: users, domains,
// memberships, tokens with their scopes, sign-in sessions, the feed of changes
// and the audit log. It is the only package that knows GORM, SQL or a driver.
//
// # Opening
//
// [Open] connects, [Store.Migrate] makes or upgrades the schema, and
// [Store.CheckSchema] says in plain words what is wrong with it. Any number of
// Stores, in one process or in many, may share a database.
//
// # Reading
//
// What decisions need, [Store.PAT], [Store.User], [Store.Domain] and
// [Store.Membership], costs one statement each. What is not there is (nil, nil):
// an absent fact is no error. Lists come in pages; see [Page]. Times are UTC in
// whole microseconds.
//
// # Writing
//
// Every write is one transaction that also appends to audit_events who did what
// from where, and to changes which facts are no longer what they were. If the
// transaction fails there is neither. A write that changes nothing writes
// nothing.
//
// Rules that span rows hold under concurrency, since the transactions lock what
// they judge. On SQLite each is alone: the pool that writes has one connection
// and begins with BEGIN IMMEDIATE. On PostgreSQL they take locks in this order,
// so that none waits for another in a circle:
//
//  1. the advisory lock of accounts, for rules about all users: there is one
//     first admin, and an admin is left; who only adds a user shares it;
//  2. the row of a user, for whatever concerns the user's tokens: names, their
//     number, rotation against revocation; or the row of a domain, for members;
//  3. the row of which policy is in force; or the advisory lock of what a shadow
//     policy's decisions add up to;
//  4. after an upgrade, until [Store.FinishFeed], the advisory lock of the feed, to
//     append changes, until the commit: servers of before schema version 9 go by the
//     order of the numbers.
//
// No lock is shared by the writes of different users, and who stands still in a
// transaction is cut off by PostgreSQL after 750 ms. Should PostgreSQL give up a
// transaction, for a deadlock with a statement from outside or because this process
// stood still, or should the connection break before the commit, it is tried again.
//
// # Caches
//
// Whoever caches facts drops them by the feed. [Store.OnChange] tells of this
// Store's own writes before they return to their caller. [Store.Changes] tells
// of everybody's; on SQLite [Store.DataVersion] says, nearly for free, whether
// asking is worthwhile. The last use of tokens and sessions are no facts that
// decisions depend on, and are not in the feed.
//
// On PostgreSQL changes become visible in any order. A reader's position is a
// snapshot, which says what transactions were over when it read; the next read
// returns what is not of those, so that it misses nothing, repeats nothing, and waits
// for nobody. It also names the last change by a nonce, and the server and the table
// that it was read from. If any of them is not there, as after a failover, a restore
// or a restart, the reader is told to drop everything. That also covers facts that
// were read and whose change was not: both were on a server that is no more.
//
// [Store.Listen] wakes readers early, and gives up connections to a server that the
// address no longer leads to. A standby is refused.
//
// # Names of tokens
//
// A live token holds its name: no other live token of the user has it. That is
// the column name_held, under a unique index of the rows where it is true. It is
// false once a token is revoked or rotated; a token that merely expires keeps it
// until another one takes the name, in whose transaction it is cleared.
//
// # Errors
//
// All errors but those of [Config.Validate] are [*models.Error]: CodeTaken for
// what a unique index refuses, CodeUnavailable when the database is busy, gone
// or too slow, CodeInternal for the rest, and the codes that the methods name.
// Context errors stay in the chain. No error and no log line holds a value of a
// statement or the password of the database URL.
package store
