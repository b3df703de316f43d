// Package identity finds out who calls: sessions, passwords, the identity provider, one-time
// codes, the setup of an empty database and the reset of a password. It writes sessions and
// credentials; users, domains and members are written by package manage alone.
//
// # Who calls
//
// An Authorization header alone identifies the caller; a cookie beside it is not
// read. A PAT may call /authorize and /proxy/, which judge it, and pats/self. All
// other management takes a session: a cookie for browsers, or a token with a
// prefix of its own for programs. Neither transport's token is good for the other.
// The user is read at every call, so disabling one ends their sessions with the
// next. Calls that a browser could be made to send, those with a cookie and the
// sign-in itself, are refused when they come from another site.
//
// # Passwords
//
// Passwords are hashed with argon2id, on half of the processors and with turns for
// every network. Wrong ones are limited per address, per account and address and
// per account; see attempts for what that does against guessing and against locking
// people out. A failed sign-in looks the same
// and takes as long whether the account exists or not. A forgotten password is
// reset by a one-time code that an administrator hands over; see [NewReset].
//
// # The identity provider
//
// Beside passwords people may sign in at an OpenID Connect provider; see
// [OIDCConfig]. They are known there by issuer and subject, never by an address, and
// an account that was here before is connected by its owner alone. A session that
// began there is confirmed there. A program is signed in by a password, or by a
// one-time code from a page; see [Service.SessionCode].
//
// # The first start
//
// On a database without users a setup code is written to a file, and the page /setup takes
// it; see [Service.BeginSetup].
package identity
