package api

import (
	"context"
	"net/http"
	"time"

	"patrol/models"
)

// PendingCode is a one-time code that nobody has used: a link to choose a new password, a code
// that signs a program in, or a link that confirms another address. MadeBy is a user, "" for an operator.
type PendingCode struct {
	UserID    string     `json:"user_id"`
	Email     string     `json:"email"`
	Purpose   string     `json:"purpose"`             // reset_password, begin_session or change_email
	NewEmail  string     `json:"new_email,omitempty"` // of change_email
	MadeBy    string     `json:"made_by"`
	MadeAt    *time.Time `json:"made_at"`
	ExpiresAt time.Time  `json:"expires_at"`
}

// NewPasswordReset is the body of `POST /api/v1/users/{id}/password-reset`, which may be left
// out. What is true is removed with the creation of the code.
type NewPasswordReset struct {
	DisconnectIdentities bool `json:"disconnect_identities,omitempty"` // ends the sessions as well
	EndSessions          bool `json:"end_sessions,omitempty"`
	WithdrawCodes        bool `json:"withdraw_codes,omitempty"`
	RevokeTokens         bool `json:"revoke_tokens,omitempty"`
}

// Removal lists what was removed.
func (n NewPasswordReset) Removal() models.Removal {
	return models.Removal{Identities: n.DisconnectIdentities, Sessions: n.EndSessions, Codes: n.WithdrawCodes, Tokens: n.RevokeTokens}
}

// PasswordReset is the answer of `POST /api/v1/users/{id}/password-reset`, the only
// one that tells the code. URL leads to the page that takes it; the code is in its
// fragment, which browsers do not send. Removed counts what was removed, Stays what works on.
type PasswordReset struct {
	Code      string        `json:"code"`
	URL       string        `json:"url"`
	ExpiresAt time.Time     `json:"expires_at"`
	Removed   models.WaysIn `json:"removed"`
	Stays     models.WaysIn `json:"stays"`
}

// MyCodes lists the links and codes that let somebody into one's own account, and that nobody
// has used.
func (c *Client) MyCodes(ctx context.Context) ([]PendingCode, error) {
	var out struct {
		Items []PendingCode `json:"items"`
	}
	err := c.session(ctx, http.MethodGet, "/me/codes", nil, nil, &out)
	return out.Items, err
}

// WithdrawMyCodes ends what [Client.MyCodes] lists. It takes a fresh sign-in.
func (c *Client) WithdrawMyCodes(ctx context.Context) error {
	return c.session(ctx, http.MethodDelete, "/me/codes", nil, nil, nil)
}

// Export holds the data that Patrol keeps about a person, for that person: the answer of `GET /api/v1/me/export`. It
// holds no secret.
type Export struct {
	ExportedAt time.Time          `json:"exported_at"`
	Account    User               `json:"account"`
	SignInBy   *time.Time         `json:"sign_in_by"`
	Members    []MyMembership     `json:"memberships"`
	Identities []Identity         `json:"identities"`
	Tokens     []ExportedPAT      `json:"tokens"`
	Sessions   []ExportedSession  `json:"sessions"`
	Codes      []PendingCode      `json:"codes"`
	Events     []AuditEvent       `json:"events"`    // what they did, and what was done to the account
	Decisions  []ExportedDecision `json:"decisions"` // about their tokens
	// CutShort names the lists that have more than [MaxExported]: the latest are there.
	CutShort []string `json:"cut_short"`
}

// MaxExported bounds each list of an [Export].
const MaxExported = 10_000

// ExportedPAT is a token with the program that used it last.
type ExportedPAT struct {
	PAT
	LastUsedAgent string `json:"last_used_agent"`
}

// ExportedSession is a session without what continues it.
type ExportedSession struct {
	Program   bool      `json:"program"`
	IP        string    `json:"ip"`
	UserAgent string    `json:"user_agent"`
	SignedIn  time.Time `json:"signed_in_at"`
	Seen      time.Time `json:"seen_at"`
	Ends      time.Time `json:"ends_at"`
}

// ExportedDecision is a decision about a token, without what else the policy looked at.
type ExportedDecision struct {
	ID         string    `json:"id"`
	At         time.Time `json:"at"`
	TokenID    string    `json:"token_id"`
	Surface    string    `json:"surface"`
	IP         string    `json:"ip"`
	Allowed    bool      `json:"allowed"`
	Domain     string    `json:"domain"`
	EntityType string    `json:"entity_type"`
	Entity     string    `json:"entity"`
	Operation  string    `json:"operation"`
}

// ExportMe returns what Patrol keeps about the one who is signed in.
func (c *Client) ExportMe(ctx context.Context) (Export, error) {
	var out Export
	err := c.session(ctx, http.MethodGet, "/me/export", nil, nil, &out)
	return out, err
}
