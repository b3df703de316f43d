package workbench

import (
	"context"
	"slices"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// EventReplay is the result of making a recorded decision again.
type EventReplay struct {
	Kind  ChangeKind          `json:"kind,omitempty"` // "": the same
	After []models.ReasonCode `json:"after,omitempty"`
	// Unreadable says that it could not be made again; see [ErrNotReplayable].
	Unreadable bool `json:"unreadable,omitempty"`
}

const (
	// maxReplayedReasons bounds the reasons in a result. Real policies give far fewer.
	maxReplayedReasons = 20
	// maxReplayAttempts bounds the attempts at an evaluation that misses its deadline. Replay
	// runs at low priority, so other work may be the cause of one miss.
	maxReplayAttempts = 3
)

// ReplayEvent makes a recorded decision, an event of the decision log, again under this
// policy, and says how it differs from what was decided. Like the server, it denies what
// the policy cannot judge in time. The error is ctx's.
func ReplayEvent(ctx context.Context, s *engine.Snapshot, event []byte, cache *FactCache) (EventReplay, error) {
	l, err := models.ParseEvent(event)
	if err != nil {
		return EventReplay{Unreadable: true}, nil //nolint:nilerr // which is an answer
	}
	var after models.Decision
	for range maxReplayAttempts {
		began := time.Now()
		after, err = ReplayDecision(ctx, s, &l, cache)
		if err != nil || time.Since(began) < s.Timeout() {
			break
		}
	}
	if ctx.Err() != nil {
		return EventReplay{}, ctx.Err()
	}
	if err != nil {
		return EventReplay{Unreadable: true}, nil //nolint:nilerr // likewise
	}
	r := EventReplay{Kind: Compare(l.Decision, after, !slices.Contains(l.Erased, "/result/headers"))}
	if r.Kind != "" {
		codes := codesOf(after)
		r.After = codes[:min(len(codes), maxReplayedReasons)]
	}
	return r, nil
}

// ReasonRules are, by code, the rules that are annotated to give reasons.
type ReasonRules map[models.ReasonCode]ReplayReason
