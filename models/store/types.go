package store

import (
	"time"

	"patrol/models"
)

// Page asks for one page of a list.
type Page struct {
	Limit int    // how many items at most; 0 or less: [DefaultPageSize]
	After string // the cursor that the previous page ended with, "" for the first page
}

// DefaultPageSize is the size of a page that names none.
const DefaultPageSize = 50

// UserFilter narrows a list of users. Nil fields do not narrow.
type UserFilter struct {
	Admin    *bool
	Disabled *bool
	Email    string // part of the address
	Name     string // part of the name
}

// UserPatch is a change of a user. Nil fields stay.
type UserPatch struct {
	Name         *string
	Admin        *bool
	Policy       *bool
	Disabled     *bool
	PasswordHash *string // "" takes the password away
	// RevokeTokens ends all tokens of a user who is disabled, or is by this.
	RevokeTokens bool
}

// DomainFilter narrows a list of domains. Empty fields do not narrow.
type DomainFilter struct {
	UserID string // only domains of which this user is a member
	Name   string // part of the name or of the id
	Status models.DomainStatus
}

// MemberFilter narrows a list of members. Empty fields do not narrow.
type MemberFilter struct {
	UserID string
	Email  string // part of the address
}

// DomainPatch is a change of a domain. Nil fields stay.
type DomainPatch struct {
	Name   *string
	Status *models.DomainStatus
	Limits *models.DomainLimits
}

// Member is a user's role in a domain, as lists of members show it.
type Member struct {
	UserID string
	Email  string
	Role   string
}

// PATFilter narrows a list of tokens. Empty fields do not narrow.
type PATFilter struct {
	UserID string
	Status models.Status // as it counts now, under Limits.MaxLifetime
	Name   string        // the whole name
}

// PATPatch is a change of a token's labels, and of the addresses that it may be used from.
// Nil fields stay.
type PATPatch struct {
	Name        *string
	Description *string
	AllowedIPs  *[]string
	// NoWider refuses addresses that the token may not be used from now:
	// CodeReauthentication.
	NoWider bool
}

// Names of the domain, for the store's own code.
type (
	// Change says that a fact which decisions depend on was written.
	Change = models.Change
	// ChangeKind is the kind of a fact that changed.
	ChangeKind = models.ChangeKind
	// Use is one use of a token.
	Use = models.Use
)

// The kinds of changes.
const (
	ChangeToken      = models.ChangeToken
	ChangeUser       = models.ChangeUser
	ChangeDomain     = models.ChangeDomain
	ChangeMembership = models.ChangeMembership
)

// AuditEvent is one line of the audit log.
type AuditEvent struct {
	ID      int64 // grows with time
	At      time.Time
	Actor   models.Actor
	Action  string // such as pat.create
	Subject string // what was acted on, as kind:id; a membership is membership:<domain>/<user id>
	Detail  map[string]string
}

// AuditFilter narrows a list of audit events. Empty fields do not narrow.
type AuditFilter struct {
	Action  string
	Subject string
	UserID  string    // of the actor
	Since   time.Time // at this time or later
	Until   time.Time // before this time
}
