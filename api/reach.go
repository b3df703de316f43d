package api

import (
	"time"

	"patrol/models"
)

// ReachCell is one thing that somebody can do, or cannot, and why: a decision of the policy in
// force.
type ReachCell struct {
	Domain     string          `json:"domain"`
	EntityType string          `json:"entity_type"`
	Entity     string          `json:"entity"` // "*": the collection, and any
	Operation  string          `json:"operation"`
	Allowed    bool            `json:"allowed"`
	Reasons    []models.Reason `json:"reasons"`
	Remedy     string          `json:"remedy,omitempty"` // what would lift the reasons, in words
	Waived     []Waived        `json:"waived,omitempty"`
	// DependsOn are those of client, context and http that the rules looked at.
	DependsOn []string `json:"depends_on,omitempty"`
}

// Reach is the answer of the calls about what somebody can do.
type Reach struct {
	Cells []ReachCell `json:"cells"`
	Next  *string     `json:"next"`
}

// ReachDraft is the body of `POST /api/v1/pats/reach`: a token that is not made yet.
type ReachDraft struct {
	Scopes    []NewScope `json:"scopes"`
	ExpiresIn string     `json:"expires_in,omitempty"` // 30d if it is left out
}

// WhoCan is the body of `POST /api/v1/policy/who-can`.
type WhoCan struct {
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// Able is somebody who could have a token do what was asked.
type Able struct {
	UserID    string      `json:"user_id"`
	Email     string      `json:"email"`
	Role      *string     `json:"role"` // null: no member of the domain
	Admin     bool        `json:"admin"`
	Tokens    []AbleToken `json:"tokens"` // that can do it now
	DependsOn []string    `json:"depends_on,omitempty"`
}

// AbleToken is a token that can do what was asked.
type AbleToken struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	ExpiresAt  time.Time  `json:"expires_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	DependsOn  []string   `json:"depends_on,omitempty"`
}

// FoundCredentials is the body of `POST /api/v1/credentials/revoke`: texts that somebody found,
// tokens among them.
type FoundCredentials struct {
	Credentials []string `json:"credentials"`
}

// SomePATs is the body of `POST /api/v1/pats/revoke`.
type SomePATs struct {
	IDs []string `json:"ids"`
}
