package api

import (
	"time"

	"patrol/models"
)

// PolicyShadow is the answer of `GET /api/v1/policy/shadow`: the policy that is judged
// beside the one in force, and what it would have decided otherwise. What is counted
// is counted by all servers on the database.
type PolicyShadow struct {
	// Shadow is the policy; null if there never was one. If the server that answers has one, it
	// is that, else the last of any server.
	Shadow *ShadowPolicy `json:"shadow"`
	// Base is the revision of the policy in force, which it is compared with.
	Base string `json:"base"`
	// InForce says that it is the policy in force, so that there is nothing to judge.
	InForce bool         `json:"in_force"`
	Counts  ShadowCounts `json:"counts"`
	// Groups are the divergences by kind and reasons, the largest first.
	Groups []ShadowGroup `json:"groups"`
	// Latest are the last divergences, the latest first.
	Latest []models.Divergence `json:"latest"`
	// Server is the one that answers; null if it judges by no shadow: the setting is
	// shadow.policy.
	Server *ShadowServer `json:"server"`
}

// ShadowPolicy is a policy that has passed the gate and is judged beside the one in
// force.
type ShadowPolicy struct {
	Revision string       `json:"revision"`
	Digest   string       `json:"digest"` // of the files that take part in evaluation
	Source   string       `json:"source"`
	SignedBy string       `json:"signed_by,omitempty"`
	Since    time.Time    `json:"since"` // when it became the shadow
	Result   PolicyResult `json:"result"`
}

// ShadowCounts counts decisions by what the shadow would have made of them.
type ShadowCounts struct {
	Judged       int64      `json:"judged"` // all but those that were dropped
	Same         int64      `json:"same"`
	NewlyAllowed int64      `json:"newly_allowed"`
	NewlyDenied  int64      `json:"newly_denied"`
	OtherReasons int64      `json:"other_reasons"` // denied for other reasons
	OtherGrant   int64      `json:"other_grant"`   // allowed by another scope, or with other headers
	Errors       int64      `json:"errors"`        // that could not be judged
	Dropped      int64      `json:"dropped"`       // that there was no time or room to judge
	From         *time.Time `json:"from"`          // when the first and the last were made; null: there are none
	To           *time.Time `json:"to"`
}

// Changes is the number of decisions that would be others.
func (c ShadowCounts) Changes() int64 {
	return c.NewlyAllowed + c.NewlyDenied + c.OtherReasons + c.OtherGrant
}

// ShadowGroup are decisions that diverge alike.
type ShadowGroup struct {
	Kind string `json:"kind"` // newly_allowed, newly_denied, other_reasons or other_grant
	// Reasons say why it was denied, for what is newly allowed, else why it would be
	// denied: code, and title, file and line of the rule. Where a policy has too many kinds of
	// reasons, those of the rest are left out.
	Reasons  []PolicyReplayReason `json:"reasons"`
	Count    int64                `json:"count"`
	From     time.Time            `json:"from"`
	To       time.Time            `json:"to"`
	Examples []models.Divergence  `json:"examples"` // the latest first
}

// ShadowServer is the state of the shadow on one server.
type ShadowServer struct {
	Sample       int          `json:"sample"`  // percent of decisions
	Judging      bool         `json:"judging"` // decisions are judged
	Failure      string       `json:"failure,omitempty"`
	SourceStatus PolicySource `json:"source_status"`
	// Refused is the gate's result for the policy in the source, if the gate refused it.
	Refused *PolicyResult `json:"refused"`
}

// PolicyPromotion is the body of `POST /api/v1/policy/promote`.
type PolicyPromotion struct {
	// Revision is the shadow's digest, or its revision: what was looked at. If it is
	// another by now, nothing happens.
	Revision string `json:"revision"`
	// MaxChanges bounds the decisions that it may have made otherwise; nil: any number.
	MaxChanges *int64 `json:"max_changes,omitempty"`
}
