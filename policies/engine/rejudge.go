package engine

import (
	"context"
	"slices"
	"time"

	"patrol/models"
)

// Rejudged is what became of a recorded decision that was made again.
type Rejudged struct {
	Kind  ChangeKind          `json:"kind,omitempty"` // "": the same
	After []models.ReasonCode `json:"after,omitempty"`
	// Unreadable says that it could not be made again; see [ErrNotReplayable].
	Unreadable bool `json:"unreadable,omitempty"`
}

const (
	// rejudgedReasons is how many reasons are told. No policy of people's own has as many.
	rejudgedReasons = 20
	// rejudgings is how often an evaluation is begun that does not end in time. Where
	// it is judged again other work comes first, so that once may be bad luck.
	rejudgings = 3
)

// Rejudge makes a recorded decision, an event of the decision log, again under this
// policy, and says how it differs from what was decided. Like the server, it denies what
// the policy cannot judge in time. The error is ctx's.
func (s *Snapshot) Rejudge(ctx context.Context, event []byte, cache *FactCache) (Rejudged, error) {
	l, err := models.ParseEvent(event)
	if err != nil {
		return Rejudged{Unreadable: true}, nil //nolint:nilerr // which is an answer
	}
	var after models.Decision
	for range rejudgings {
		began := time.Now()
		after, err = s.Again(ctx, &l, cache)
		if err != nil || time.Since(began) < s.timeout {
			break
		}
	}
	if ctx.Err() != nil {
		return Rejudged{}, ctx.Err()
	}
	if err != nil {
		return Rejudged{Unreadable: true}, nil //nolint:nilerr // likewise
	}
	r := Rejudged{Kind: Compare(l.Decision, after, !slices.Contains(l.Erased, "/result/headers"))}
	if r.Kind != "" {
		codes := codesOf(after)
		r.After = codes[:min(len(codes), rejudgedReasons)]
	}
	return r, nil
}

// ReasonRules are, by code, the rules that are annotated to give reasons.
type ReasonRules map[models.ReasonCode]ReplayReason

// ReasonRules returns the policy's.
func (s *Snapshot) ReasonRules() ReasonRules { return s.reasonRules() }
