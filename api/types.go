package api

import (
	"time"

	"patrol/models"
)

// ConsistencyFull as the consistency of a question has the facts read from the
// database, whatever the server has cached.
const ConsistencyFull = "full"

// AuthorizeRequest is the body of `POST /authorize`. The token is sent here or
// as `Authorization: Bearer`, never both.
type AuthorizeRequest struct {
	Token       *string        `json:"token,omitempty"`
	Consistency string         `json:"consistency,omitempty"` // "" or ConsistencyFull
	Domain      string         `json:"domain"`
	EntityType  string         `json:"entity_type"`
	Entity      string         `json:"entity"`
	Operation   string         `json:"operation"`
	Context     map[string]any `json:"context,omitempty"` // handed to the policy as it is
	// Client describes the caller's own client; it counts if the server trusts the caller.
	Client *AuthorizeClient `json:"client,omitempty"`
}

// AuthorizeClient is the client in whose name a service asks.
type AuthorizeClient struct {
	IP        string `json:"ip,omitempty"`
	UserAgent string `json:"user_agent,omitempty"` // at most 1,024 bytes
}

// AuthorizeItem is one request of a batch.
type AuthorizeItem struct {
	Domain     string         `json:"domain"`
	EntityType string         `json:"entity_type"`
	Entity     string         `json:"entity"`
	Operation  string         `json:"operation"`
	Context    map[string]any `json:"context,omitempty"`
}

// AuthorizeBatch is the body of `POST /authorize/batch`: 1 to 1,000 requests for
// one token.
type AuthorizeBatch struct {
	Token       *string         `json:"token,omitempty"`
	Consistency string          `json:"consistency,omitempty"` // "" or ConsistencyFull
	Requests    []AuthorizeItem `json:"requests"`
	// Client describes the caller's own client; it counts if the server trusts the caller.
	Client *AuthorizeClient `json:"client,omitempty"`
}

// Decision is the answer to one authorize request. A denial is an answer like
// any other; Status is what the end client should be told.
type Decision struct {
	Allowed    bool            `json:"allowed"`
	DecisionID string          `json:"decision_id"`
	Reasons    []models.Reason `json:"reasons"`
	Status     int             `json:"status"` // 200, 401, 403 or 503
	TokenID    string          `json:"token_id,omitempty"`
	UserID     string          `json:"user_id,omitempty"`
	ScopeID    string          `json:"scope_id,omitempty"`
	Revision   string          `json:"revision"`
	// Labels are the policy's labels for the decision.
	Labels map[string]string `json:"labels,omitempty"`
	// Waived are the reasons against it that were waived.
	Waived []Waived `json:"waived,omitempty"`
}

// Waived is a reason to deny that did not count: by an exception of the policy, which
// says why and until when, or by a waiver of the policy's manifest and the server.
type Waived struct {
	Code    models.ReasonCode `json:"code"`
	Because string            `json:"because,omitempty"`
	Until   *time.Time        `json:"until,omitempty"`
}

// DecisionBatch is the answer to a batch, in the order of its requests.
type DecisionBatch struct {
	Decisions []Decision `json:"decisions"`
}

// SignIn is the body of `POST /api/v1/session`: an email address and a password, or,
// for a program, a code from the page that signs programs in. Transport is "" or
// "cookie" for a browser, "bearer" for a program.
type SignIn struct {
	Email     string `json:"email,omitempty"`
	Password  string `json:"password,omitempty"`
	Code      string `json:"code,omitempty"`
	Transport string `json:"transport,omitempty"`
}

// Session is the answer to a sign-in. SessionToken is there only for
// transport "bearer".
type Session struct {
	User         Me         `json:"user"`
	SessionToken string     `json:"session_token,omitempty"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"` // the absolute end of the session
}

// Reauthenticate is the body of `POST /api/v1/session/reauthenticate`.
type Reauthenticate struct {
	Password string `json:"password"`
}

// Me is the signed-in user.
type Me struct {
	ID          string         `json:"id"`
	Email       string         `json:"email"`
	Name        string         `json:"name"`
	Admin       bool           `json:"admin"`
	Policy      bool           `json:"policy"`
	Memberships []MyMembership `json:"memberships"`
	// SignInBy is the end of the account's access, unless its owner signs in at the identity
	// provider before; nil: it has none.
	SignInBy *time.Time `json:"sign_in_by,omitempty"`
}

// MyMembership is one domain of the signed-in user.
type MyMembership struct {
	Domain string `json:"domain"`
	Role   string `json:"role"`
}

// Scope is one permission of a PAT.
type Scope struct {
	ID         string `json:"id,omitempty"` // set by the server
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// NewScope is a scope as a client asks for it.
type NewScope struct {
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// String is the scope as text, domain:type:entity:operation.
func (s NewScope) String() string {
	return models.Scope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}.String()
}

// NewPAT is the body of `POST /api/v1/pats`. Exactly one of ExpiresIn and
// ExpiresAt is given.
type NewPAT struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	ExpiresIn   string     `json:"expires_in,omitempty"` // 30d, 12h, 90s, P30D
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Scopes      []NewScope `json:"scopes"`
	// AllowedIPs are addresses and ranges (CIDR); with any, the token works from them alone.
	AllowedIPs []string `json:"allowed_ips,omitempty"`
}

// PATPatch is the body of `PATCH /api/v1/pats/{id}`; absent fields stay. More AllowedIPs, or
// none again, need a recent sign-in.
type PATPatch struct {
	Name        *string   `json:"name,omitempty"`
	Description *string   `json:"description,omitempty"`
	AllowedIPs  *[]string `json:"allowed_ips,omitempty"`
}

// Rotation is the body of `POST /api/v1/pats/{id}/rotate`. Grace is the time for which the
// old token lives on; absent, it ends at once.
type Rotation struct {
	ExpiresIn string     `json:"expires_in,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Grace     string     `json:"grace,omitempty"`
}

// PAT is a personal access token's record. Token is set in the one answer that
// creates or rotates it and never again.
type PAT struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Description string        `json:"description"`
	Status      models.Status `json:"status"`
	Scopes      []Scope       `json:"scopes"`
	CreatedAt   time.Time     `json:"created_at"`
	ExpiresAt   time.Time     `json:"expires_at"`
	LastUsedAt  *time.Time    `json:"last_used_at"`
	LastUsedIP  *string       `json:"last_used_ip"`
	RevokedAt   *time.Time    `json:"revoked_at"`
	RotatedTo   *string       `json:"rotated_to"`
	Token       string        `json:"token,omitempty"`

	// The user who revoked it, the domain if as its admin, and the reason.
	RevokedBy     *models.RevokerKind `json:"revoked_by"`
	RevokedDomain *string             `json:"revoked_domain"`
	RevokedReason *string             `json:"revoked_reason"`
	// Approvals are those that hold: of the scopes that the token has.
	Approvals []Approval `json:"approvals"`
	// Withdrawals are of the domains that take it no more.
	Withdrawals []Withdrawal `json:"withdrawals"`
	// AllowedIPs are the addresses and ranges from which it works; none: from everywhere.
	AllowedIPs []string `json:"allowed_ips"`
}

// Withdrawal is a domain's refusal of a PAT of a platform admin.
type Withdrawal struct {
	Domain      string    `json:"domain"`
	WithdrawnAt time.Time `json:"withdrawn_at"`
	Reason      string    `json:"reason"`
}

// Withdraw is the body of `PUT /api/v1/domains/{id}/pats/{pat}/withdrawal`.
type Withdraw struct {
	Reason string `json:"reason"` // for its owner
}

// Approval is a domain's consent to a PAT as it is.
type Approval struct {
	Domain     string    `json:"domain"`
	ApprovedAt time.Time `json:"approved_at"`
}

// Revocation is the body, if there is one, of `POST /api/v1/pats/{id}/revoke`, and
// of the same within a domain, where the reason is required. The token's owner is
// shown it.
type Revocation struct {
	Reason string `json:"reason"`
}

// Purge is the body of `POST /api/v1/pats/purge` and, with one of the first two
// fields, of `POST /api/v1/admin/pats/purge`.
type Purge struct {
	UserID string `json:"user_id,omitempty"` // whose tokens
	All    bool   `json:"all,omitempty"`     // everybody's
	// OlderThan is the time for which they must be dead; "": at all.
	OlderThan string `json:"older_than,omitempty"`
}

// Purged is the answer.
type Purged struct {
	Purged int  `json:"purged"` // how many records are gone
	More   bool `json:"more"`   // there are more: ask again
}

// Reached says which servers know of a change. Each of them either has applied it, or
// went without a look at what changed for so long that it trusts nothing it has cached.
type Reached struct {
	Acknowledged int      `json:"acknowledged"` // how many servers have applied it
	Lapsed       []Server `json:"lapsed"`       // those that have not
}

// Server is one of the servers on the database.
type Server struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // host and address
	LastSeen time.Time `json:"last_seen"`
}

// RevokedPAT is a PAT that was revoked; Servers is there if the call waited for them.
type RevokedPAT struct {
	PAT
	Servers *Reached `json:"servers,omitempty"`
}

// RevokedDomainPAT is the same within a domain.
type RevokedDomainPAT struct {
	DomainPAT
	Servers *Reached `json:"servers,omitempty"`
}

// OwnedPAT is anybody's PAT, as platform admins see it.
type OwnedPAT struct {
	PAT
	UserID string `json:"user_id"`
	Email  string `json:"email"` // the owner's
}

// LeakedToken is the body of `POST /api/v1/admin/leaked`.
type LeakedToken struct {
	Token  string `json:"token"`
	Reason string `json:"reason,omitempty"` // for its owner
}

// DomainPAT is a PAT that reaches a domain, as the domain's admins see it: with
// the scopes that do.
type DomainPAT struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Status      models.Status `json:"status"`
	UserID      string        `json:"user_id"`
	Email       string        `json:"email"` // the owner's
	Scopes      []Scope       `json:"scopes"`
	CreatedAt   time.Time     `json:"created_at"`
	ExpiresAt   time.Time     `json:"expires_at"`
	AllowedIPs  []string      `json:"allowed_ips"` // none: from everywhere
	LastUsedAt  *time.Time    `json:"last_used_at"`
	ApprovedAt  *time.Time    `json:"approved_at"`  // by this domain
	WithdrawnAt *time.Time    `json:"withdrawn_at"` // from this domain
	// WithdrawnReason is the reason that the domain's admin gave.
	WithdrawnReason *string             `json:"withdrawn_reason"`
	RevokedAt       *time.Time          `json:"revoked_at"`
	RevokedBy       *models.RevokerKind `json:"revoked_by"`
	RevokedDomain   *string             `json:"revoked_domain"`
	RevokedReason   *string             `json:"revoked_reason"`
}

// Approve is the body, if there is one, of `PUT /api/v1/domains/{id}/approvals/{pat}`.
// Scopes are the ids of the scopes that were looked at; if others reach the domain
// meanwhile, nothing is approved.
type Approve struct {
	Scopes []string `json:"scopes,omitempty"`
}

// DomainLimits are a domain's limits for the PATs that reach it.
type DomainLimits struct {
	MaxLifetime *string `json:"max_lifetime"` // after a PAT's creation; null: as long as it lives
	Wildcards   bool    `json:"wildcards"`    // scopes with * count
	Approval    bool    `json:"approval"`     // a PAT works only once it is approved
}

// SetDomainLimits is the body of `PUT /api/v1/domains/{id}/limits`. Without
// MaxLifetime there is none; the others are required.
type SetDomainLimits struct {
	MaxLifetime *string `json:"max_lifetime"`
	Wildcards   *bool   `json:"wildcards"`
	Approval    *bool   `json:"approval"`
}

// AuditEvent is one line of the audit log.
type AuditEvent struct {
	ID      int64             `json:"id"`
	At      time.Time         `json:"at"`
	Actor   AuditActor        `json:"actor"`
	Action  string            `json:"action"`  // such as pat.create
	Subject string            `json:"subject"` // what was acted on, as kind:id
	Detail  map[string]string `json:"detail"`
}

// AuditActor names the person or program that did it, and its address.
type AuditActor struct {
	Kind      models.ActorKind `json:"kind"`
	UserID    string           `json:"user_id,omitempty"`
	TokenID   string           `json:"token_id,omitempty"`
	IP        string           `json:"ip,omitempty"`
	UserAgent string           `json:"user_agent,omitempty"`
	RequestID string           `json:"request_id,omitempty"`
}

// User is an account, as platform admins see it.
type User struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Name      string    `json:"name"`
	Admin     bool      `json:"admin"`
	Policy    bool      `json:"policy"`
	Disabled  bool      `json:"disabled"`
	CreatedAt time.Time `json:"created_at"`
}

// NewUser is the body of `POST /api/v1/users`. Without a password the user
// cannot sign in with one.
type NewUser struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password,omitempty"`
	Admin    bool   `json:"admin,omitempty"`
	Policy   bool   `json:"policy,omitempty"`
}

// UserPatch is the body of `PATCH /api/v1/users/{id}`; absent fields stay.
type UserPatch struct {
	Name     *string `json:"name,omitempty"`
	Admin    *bool   `json:"admin,omitempty"`
	Policy   *bool   `json:"policy,omitempty"`
	Disabled *bool   `json:"disabled,omitempty"`
	// RevokeTokens, with Disabled, ends all tokens, so that enabling does not bring them back.
	RevokeTokens *bool `json:"revoke_tokens,omitempty"`
}

// OAuthError is the answer to an identity provider that says something wrong (RFC 6749).
type OAuthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// ResetPassword is the body of `POST /api/v1/password-reset`.
type ResetPassword struct {
	Code     string `json:"code"`
	Password string `json:"password"`
}

// Domain is a workspace.
type Domain struct {
	ID        string              `json:"id"`
	Name      string              `json:"name"`
	Status    models.DomainStatus `json:"status"`
	CreatedAt time.Time           `json:"created_at"`
}

// NewDomain is the body of `POST /api/v1/domains`.
type NewDomain struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// DomainPatch is the body of `PATCH /api/v1/domains/{id}`; absent fields stay.
type DomainPatch struct {
	Name   *string              `json:"name,omitempty"`
	Status *models.DomainStatus `json:"status,omitempty"`
}

// Member is a user's role in a domain.
type Member struct {
	UserID string `json:"user_id"`
	Email  string `json:"email"`
	Role   string `json:"role"`
}

// SetMember is the body of `PUT /api/v1/domains/{id}/members/{user id}`.
type SetMember struct {
	Role string `json:"role"`
}

// Setup is the body of `POST /setup`, which makes the first account of an empty
// server.
type Setup struct {
	Code     string `json:"code"` // from the file that the server's log names
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// WarningHeader is the header of an answer to what was done, but not without a
// fault: what that is, in words.
const WarningHeader = "Patrol-Warning"

// Health is the answer of `GET /healthz` and `GET /readyz`. Checks, of the latter,
// says of each part "ok" or "failed".
type Health struct {
	Status string            `json:"status"` // "ok" or "failed"
	Checks map[string]string `json:"checks,omitempty"`
	Causes map[string]string `json:"causes,omitempty"` // of failed checks, where an operator must act
}

// Page is one page of a list. Next is the cursor for `?after=`, null on the last
// page.
type Page[T any] struct {
	Items []T     `json:"items"` // [] rather than null
	Next  *string `json:"next"`
}

// Problem is an error answer (RFC 9457, `application/problem+json`). Type is
// "about:blank", so Title is the status phrase (§4.2.1); Code tells errors apart.
type Problem struct {
	Type       string              `json:"type"`
	Title      string              `json:"title"`
	Status     int                 `json:"status"`
	Detail     string              `json:"detail,omitempty"`
	Code       string              `json:"code"`
	RequestID  string              `json:"request_id,omitempty"`
	Errors     []models.FieldError `json:"errors,omitempty"`
	RotatedTo  string              `json:"rotated_to,omitempty"`
	DecisionID string              `json:"decision_id,omitempty"` // of a refused proxied request
	Reasons    []models.Reason     `json:"reasons,omitempty"`     // likewise
}

// Identity is a user's account at an identity provider. Whoever signs in there gets into the
// account here.
type Identity struct {
	ID         string     `json:"id"`
	Issuer     string     `json:"issuer"`
	Subject    string     `json:"subject"`
	Since      time.Time  `json:"since"`
	LastUsedAt *time.Time `json:"last_used_at"`
}

// IdentityOf returns an identity in the form of the API.
func IdentityOf(i models.Identity) Identity {
	return Identity{ID: i.ID(), Issuer: i.Issuer, Subject: i.Subject, Since: i.CreatedAt.UTC(), LastUsedAt: i.LastUsedAt}
}

// UserOf returns an account in the form of the API.
func UserOf(u models.User) User {
	return User{ID: u.ID, Email: u.Email, Name: u.Name, Admin: u.Admin, Policy: u.Policy, Disabled: u.Disabled, CreatedAt: u.CreatedAt.UTC()}
}

// WaivedOf returns the reasons in spite of which a decision allowed.
func WaivedOf(waived []models.Waiver) (out []Waived) {
	for _, w := range waived {
		one := Waived{Code: w.Code, Because: w.Because}
		if w.Until != 0 {
			one.Until = new(time.Unix(w.Until, 0).UTC())
		}
		out = append(out, one)
	}
	return out
}
