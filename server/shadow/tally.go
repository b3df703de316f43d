package shadow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"patrol/models"
	"patrol/policies/engine/workbench"
	"patrol/server/authz"
)

// tally adds up what came out, until it is written.
type tally struct {
	mu     sync.Mutex
	counts map[string]map[countKey]*count // by digest of the shadow
}

// countKey says which decisions are counted together.
type countKey struct{ base, kind, reasons string }

// count is a [models.ShadowCount] whose examples are not masked yet.
type count struct {
	models.ShadowCount
	latest []example // the last ones
}

// example is a decision that diverged.
type example struct {
	record authz.Record
	after  []models.ReasonCode
}

const (
	// maxGroups bounds the kinds of divergence that are told apart between two writes. Reasons are
	// the policy's own words, which it might make of its input.
	maxGroups = 100
	// otherReasons stands for the reasons of the rest.
	otherReasons = "other"
)

func newTally() *tally { return &tally{counts: map[string]map[countKey]*count{}} }

// of returns where decisions are counted; the caller holds the lock.
func (t *tally) of(digest string, key countKey, rules func() json.RawMessage, at time.Time) *count {
	of := t.counts[digest]
	if of == nil {
		of = map[countKey]*count{}
		t.counts[digest] = of
	}
	c := of[key]
	if c == nil && len(of) >= maxGroups && key.reasons != "" {
		key.reasons, rules = otherReasons, func() json.RawMessage { return json.RawMessage(`[]`) }
		c = of[key]
	}
	if c == nil {
		c = &count{ShadowCount: models.ShadowCount{Base: key.base, Kind: key.kind, Reasons: key.reasons, Rules: rules(), FirstAt: at}}
		of[key] = c
	}
	return c
}

// add counts n decisions that were made under base, the last of them at a time.
func (t *tally) add(digest, base, kind string, n int64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.of(digest, countKey{base: base, kind: kind}, func() json.RawMessage { return json.RawMessage(`[]`) }, at)
	c.Count += n
	c.LastAt = at
}

// diverged counts a decision that comes out otherwise.
func (t *tally) diverged(digest string, r *authz.Record, a workbench.EventReplay, rules workbench.ReasonRules) {
	codes := a.After
	if a.Kind == workbench.NewlyAllowed {
		codes = codesOf(r.Decision)
	}
	key := countKey{base: r.Decision.Revision, kind: string(a.Kind), reasons: joined(codes)}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.of(digest, key, func() json.RawMessage { return ruled(codes, rules) }, r.At)
	c.Count++
	c.LastAt = r.At
	if len(c.latest) == models.KeptDivergences {
		c.latest = slices.Delete(c.latest, 0, 1)
	}
	c.latest = append(c.latest, example{*r, a.After})
}

// take returns what has been added up, and begins anew.
func (t *tally) take() map[string]map[countKey]*count {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.counts
	t.counts = map[string]map[countKey]*count{}
	return taken
}

// restore adds what could not be written to what came since.
func (t *tally) restore(digest string, counts map[countKey]*count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, old := range counts {
		c := t.of(digest, key, func() json.RawMessage { return old.Rules }, old.FirstAt)
		c.Count += old.Count
		c.FirstAt = old.FirstAt
		if c.LastAt.Before(old.LastAt) {
			c.LastAt = old.LastAt
		}
		c.latest = append(old.latest, c.latest...)
		c.latest = c.latest[max(0, len(c.latest)-models.KeptDivergences):]
	}
}

// masker makes decisions what may be shown of them; it is a decisionlog.Masker.
type masker interface {
	Logged(ctx context.Context, r *authz.Record, l *models.LoggedDecision) error
}

// divergence returns the parts of an example that may be kept. The error says that its mask
// failed, so that next to nothing is kept.
func (e *example) divergence(ctx context.Context, m masker) (models.Divergence, error) {
	d := models.Divergence{
		ID: e.record.Decision.ID, At: e.record.At, TokenID: e.record.Decision.TokenID, UserID: e.record.Decision.UserID,
		Surface: e.record.Surface, Before: codesOf(e.record.Decision), After: e.after,
	}
	if d.After == nil {
		d.After = []models.ReasonCode{}
	}
	var l models.LoggedDecision
	if err := m.Logged(ctx, &e.record, &l); err != nil {
		d.Masked = true
		return d, fmt.Errorf("mask decision %s: %w", d.ID, err)
	}
	d.Masked = l.InputMasked()
	if l.Request.Domain+l.Request.EntityType+l.Request.Entity+l.Request.Operation != "" {
		d.Request = l.Request.Scope()
	}
	return d, nil
}

func codesOf(d models.Decision) []models.ReasonCode {
	codes := make([]models.ReasonCode, len(d.Reasons))
	for i, r := range d.Reasons {
		codes[i] = r.Code
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func joined(codes []models.ReasonCode) string {
	texts := make([]string, len(codes))
	for i, c := range codes {
		texts[i] = string(c)
	}
	return strings.Join(texts, " ")
}

// ruled is the codes with the rules that give them, as JSON.
func ruled(codes []models.ReasonCode, rules workbench.ReasonRules) json.RawMessage {
	reasons := make([]workbench.ReplayReason, len(codes))
	for i, code := range codes {
		reasons[i] = rules[code]
		reasons[i].Code = code
	}
	text, err := json.Marshal(reasons)
	if err != nil {
		panic(err) // texts and numbers can always be marshaled
	}
	return text
}
