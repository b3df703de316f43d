package authz

import (
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// owner is the user's part of the policy's input. Who stays away from their identity provider
// for too long counts as disabled. Nothing is written then and no change announced: it is the
// time that changes. So it is looked at whenever the fact is used, however long it is cached.
type owner struct {
	here, gone *engine.Value // gone: from until on; nil: there is no such time
	until      time.Time
}

func newOwner(u models.User, absence time.Duration) *owner {
	o := &owner{here: engine.UserValue(u)}
	if by := u.SignInBy(absence); by != nil && !u.Disabled {
		u.Disabled = true
		o.gone, o.until = engine.UserValue(u), *by
	}
	return o
}

// now returns the user's part of the input as of a time.
func (o *owner) now(at time.Time) *engine.Value {
	switch {
	case o == nil:
		return nil
	case o.gone != nil && !at.Before(o.until):
		return o.gone
	}
	return o.here
}
