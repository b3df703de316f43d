package api

import (
	"time"

	"patrol/models"
)

// Policy is the answer of `GET /api/v1/policy`: the policy in force on the server
// that answers.
type Policy struct {
	Revision string    `json:"revision"`
	Digest   string    `json:"digest"` // of the files that take part in evaluation
	Source   string    `json:"source"` // where it came from
	SignedBy string    `json:"signed_by,omitempty"`
	Since    time.Time `json:"since"`
	// Pinned says that a roll back or a promotion put it in force, and that it stays
	// until the source is followed again.
	Pinned bool `json:"pinned"`
	// Promoted says that it was a promotion, whose pin ends by itself when the source
	// holds the same.
	Promoted bool `json:"promoted"`
	// Departures lists allowances on this server in spite of a reason to deny.
	Departures PolicyDepartures `json:"departures"`
	// Breaches counts, since then and on this server, the allowances that no policy may give.
	// The server denied all of them.
	Breaches []PolicyBreach `json:"breaches"`
	// Result is the gate's result for it.
	Result       PolicyResult `json:"result"`
	SourceStatus PolicySource `json:"source_status"`
	// SyncError says why the server does not follow which policy is in force
	// elsewhere.
	SyncError string        `json:"sync_error,omitempty"`
	Refusals  []PolicyEvent `json:"refusals"` // the last ones, the latest first
}

// PolicySource is the state of the policy's source.
type PolicySource struct {
	Name      string         `json:"name"`
	Reached   bool           `json:"reached"`
	CheckedAt *time.Time     `json:"checked_at"` // when it last had something to say
	Error     string         `json:"error,omitempty"`
	Pending   *PolicyPending `json:"pending"` // what it holds and is not in force; null: nothing
}

// PolicyPending is a bundle that is not in force.
type PolicyPending struct {
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	Refused  bool   `json:"refused"` // else it waits because another is pinned
}

// PolicyResult is the gate's result for a policy.
type PolicyResult struct {
	Passed     bool            `json:"passed"`
	OPAVersion string          `json:"opa_version,omitempty"`
	Tests      *PolicyTests    `json:"tests,omitempty"`
	Coverage   *float64        `json:"coverage,omitempty"` // percent of its lines
	Safety     *PolicySafety   `json:"safety,omitempty"`
	Replay     *PolicyReplay   `json:"replay,omitempty"`
	Findings   []PolicyFinding `json:"findings,omitempty"` // why it was refused
	Warnings   []PolicyFinding `json:"warnings,omitempty"`
	// Departures are null of a policy that does not load, and of one that an earlier
	// version judged.
	Departures *PolicyDepartures `json:"departures,omitempty"`
}

// PolicyDepartures lists a policy's allowances in spite of a reason to deny, and their cause.
type PolicyDepartures struct {
	Waives     []models.ReasonCode `json:"waives,omitempty"`     // by its manifest and the server's setting together
	Exceptions []PolicyRule        `json:"exceptions,omitempty"` // where it makes exceptions
	Labels     []PolicyRule        `json:"labels,omitempty"`     // where it gives labels
}

// PolicyRule is a rule of a policy.
type PolicyRule struct {
	Title string `json:"title,omitempty"`
	File  string `json:"file"`
	Line  int    `json:"line,omitzero"`
}

// PolicyBreach says how often a policy allowed what no policy may allow.
type PolicyBreach struct {
	Code  models.ReasonCode `json:"code"` // of the reason that it should have given
	Count int64             `json:"count"`
}

// PolicyTests counts a policy's tests.
type PolicyTests struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// PolicySafety counts the cases that no policy may allow.
type PolicySafety struct {
	Passed int      `json:"passed"`
	Failed int      `json:"failed"`
	Waived []string `json:"waived"`
}

// PolicyReplay compares recorded decisions as a policy would make them with
// what they are under the one in force.
type PolicyReplay struct {
	Revision string     `json:"revision"` // of the policy that they were made again under
	From     *time.Time `json:"from"`     // when the first and the last decision were made; null: there are none
	To       *time.Time `json:"to"`
	Replayed int64      `json:"replayed"`
	Skipped  int64      `json:"skipped"` // that have no input
	// Masked counts those whose input a mask has changed.
	Masked       int64               `json:"masked"`
	NewlyAllowed int64               `json:"newly_allowed"`
	NewlyDenied  int64               `json:"newly_denied"`
	OtherReasons int64               `json:"other_reasons"` // denied for other reasons
	OtherGrant   int64               `json:"other_grant"`   // allowed by another scope or with other headers
	Groups       []PolicyReplayGroup `json:"groups"`        // by kind and reasons, the largest first
	MoreGroups   int                 `json:"more_groups,omitzero"`
}

// PolicyReplayGroup are decisions that change alike.
type PolicyReplayGroup struct {
	Kind string `json:"kind"` // newly_allowed, newly_denied, other_reasons or other_grant
	// Reasons say why it was denied before, for what is newly allowed, else why it
	// is denied now.
	Reasons  []PolicyReplayReason  `json:"reasons"`
	Count    int64                 `json:"count"`
	Examples []PolicyReplayExample `json:"examples"`
}

// PolicyReplayReason is a reason with the rule that gives it, if one is annotated
// with its code.
type PolicyReplayReason struct {
	Code  models.ReasonCode `json:"code"`
	Title string            `json:"title,omitempty"`
	File  string            `json:"file,omitempty"`
	Line  int               `json:"line,omitzero"`
}

// PolicyReplayExample is a decision that would be another.
type PolicyReplayExample struct {
	ID      string              `json:"id"`
	At      time.Time           `json:"at"`
	Request string              `json:"request"` // domain:type:entity:operation
	TokenID string              `json:"token_id,omitempty"`
	UserID  string              `json:"user_id,omitempty"`
	Before  []models.ReasonCode `json:"before"` // reasons; none: allowed
	After   []models.ReasonCode `json:"after"`
	Masked  bool                `json:"masked,omitzero"`
}

// PolicyFinding is one thing that is wrong with a policy, and where.
type PolicyFinding struct {
	Stage   string `json:"stage"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// PolicyEvent is something that happened to the policy.
type PolicyEvent struct {
	ID       int64            `json:"id"`
	At       time.Time        `json:"at"`
	Kind     string           `json:"kind"` // activate, refuse, rollback, resume, promote, shadow or shadow_refuse
	Actor    models.ActorKind `json:"actor"`
	UserID   string           `json:"user_id,omitempty"` // of the actor
	Revision string           `json:"revision"`
	Digest   string           `json:"digest"` // "" if the bundle could not be read
	Source   string           `json:"source"`
	SignedBy string           `json:"signed_by,omitempty"`
	Result   PolicyResult     `json:"result"`
}

// PolicyRevision is a policy that can be rolled back to.
type PolicyRevision struct {
	Revision    string       `json:"revision"`
	Digest      string       `json:"digest"`
	Source      string       `json:"source"`
	SignedBy    string       `json:"signed_by,omitempty"`
	ActivatedAt time.Time    `json:"activated_at"` // the last time
	Active      bool         `json:"active"`
	Result      PolicyResult `json:"result"`
}

// PolicyHistory is the answer of `GET /api/v1/policy/history`.
type PolicyHistory struct {
	Events []PolicyEvent    `json:"events"` // the latest first
	Kept   []PolicyRevision `json:"kept"`   // what can be rolled back to, the last in force first
}

// PolicyRollback is the body of `POST /api/v1/policy/rollback`.
type PolicyRollback struct {
	Revision string `json:"revision"` // or the digest
}
