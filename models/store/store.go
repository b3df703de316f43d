package store

import "errors"

// Store is a database with the records of Patrol. It is safe for concurrent use.
type Store struct{}

// SessionStore keeps sign-in sessions.
type SessionStore struct{}

var errStub = errors.New("being written")
