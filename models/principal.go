package models

import "time"

// Principal is the caller of a management call: a signed-in user, or an access token that
// acts on itself. The route table says who may make a call; what takes a Principal checks
// for itself whose the thing is.
type Principal struct {
	User       User
	SignedInAt time.Time // when credentials were last given; zero for a token
	AtProvider bool      // the session began at the identity provider, and is confirmed there
	PAT        *PAT      // nil for a session
	Actor      Actor     // for the audit log
}
