package workbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/util"

	"patrol/models"
	"patrol/policies/engine"
)

// ErrNotReplayable is in the chain of the error of [ReplayDecision] and
// [ExplainLogged] for a decision that the policy was not asked for, or whose
// input is not there any more; the error says which.
var ErrNotReplayable = errors.New("the decision cannot be made again")

var (
	errNotAsked      = fmt.Errorf("%w: the policy was not asked for it", ErrNotReplayable)
	errInputErased   = fmt.Errorf("%w: its input is masked", ErrNotReplayable)
	errRequestErased = fmt.Errorf("%w: what was asked for is masked", ErrNotReplayable)
	errAddressErased = fmt.Errorf("%w: the client's address is masked, and the token is for some addresses", ErrNotReplayable)
)

// CheckReplayable returns nil, or an [ErrNotReplayable] that says why a decision
// cannot be made again.
func CheckReplayable(l *models.LoggedDecision) error {
	switch {
	case l.Input == nil && l.InputMasked():
		return errInputErased
	case l.Input == nil:
		return errNotAsked
	case l.Request.Validate() != nil:
		return errRequestErased
	}
	return nil
}

// FactCache keeps the facts of logged decisions, which share them, ready to be
// judged. The zero value is ready to use; it belongs to one goroutine.
type FactCache struct {
	values map[[16]byte]*engine.Value
	text   int // bytes of JSON that they were made of
	series map[*engine.Snapshot]*engine.Series
}

// The bounds of a cache; a full one begins anew. A value takes some twenty times
// the memory of its text.
const (
	maxCachedFacts = 20_000
	maxCachedText  = 2 << 20
)

func (c *FactCache) value(f *models.Fact, kind engine.FactKind) (*engine.Value, error) {
	if f == nil {
		return nil, nil
	}
	if v := c.values[f.Key]; v != nil {
		return v, nil
	}
	v, err := engine.LoggedFact(f, kind)
	if err != nil {
		return nil, err
	}
	if c.values == nil || len(c.values) >= maxCachedFacts || c.text >= maxCachedText {
		c.values, c.text = map[[16]byte]*engine.Value{}, 0
	}
	c.values[f.Key] = v
	c.text += len(f.JSON)
	return v, nil
}

// maxSeries bounds how many policies a cache is used for at once.
const maxSeries = 8

func (c *FactCache) seriesOf(s *engine.Snapshot) *engine.Series {
	if c.series[s] == nil {
		if c.series == nil || len(c.series) >= maxSeries {
			c.series = map[*engine.Snapshot]*engine.Series{}
		}
		c.series[s] = s.Series()
	}
	return c.series[s]
}

// ReplayDecision makes a logged decision again under a policy: on the input that it was
// made on, at the time it was made. A policy that cannot judge it denies it, with
// `policy_error`, as the server would. The error is an [ErrNotReplayable], that of an
// input that cannot be read, or ctx's.
func ReplayDecision(ctx context.Context, s *engine.Snapshot, l *models.LoggedDecision, cache *FactCache) (models.Decision, error) {
	if err := CheckReplayable(l); err != nil {
		return models.Decision{}, err
	}
	in := l.Input
	var facts engine.Facts
	for _, f := range [...]struct {
		kind engine.FactKind
		from *models.Fact
		to   **engine.Value
	}{{engine.TokenFact, in.Token, &facts.Token}, {engine.UserFact, in.User, &facts.User}, {engine.DomainFact, in.Domain, &facts.Domain}, {engine.MembershipFact, in.Membership, &facts.Membership}} {
		var err error
		if *f.to, err = cache.value(f.from, f.kind); err != nil {
			return models.Decision{}, err
		}
	}
	if err := readCall(in, &facts, l.InputMasked()); err != nil {
		return models.Decision{}, err
	}
	if facts.Token.HasAllowedIPs() && !facts.Client.IP.IsValid() && l.InputMasked() {
		return models.Decision{}, errAddressErased
	}
	req := l.Request
	if in.Context != "" {
		if err := util.UnmarshalJSON([]byte(in.Context), &req.Context); err != nil {
			return models.Decision{}, fmt.Errorf("read a logged context: %w", err)
		}
	}
	d, err := cache.seriesOf(s).Decide(ctx, req, facts, time.Unix(in.Now, 0))
	if err != nil {
		if ctx.Err() != nil {
			return models.Decision{}, err
		}
		d = models.Deny(models.PolicyError)
		d.Revision = s.Revision()
	}
	return d, nil
}

// readCall reads what a logged input has of the call. Of a masked input an address that is
// none, such as a hash of one, is unknown.
func readCall(in *models.DecisionInput, to *engine.Facts, masked bool) error {
	if in.Client != "" {
		var client struct {
			IP        string `json:"ip"`
			UserAgent string `json:"user_agent"`
		}
		if err := util.UnmarshalJSON([]byte(in.Client), &client); err != nil {
			return fmt.Errorf("read a logged client: %w", err)
		}
		to.Client.UserAgent = client.UserAgent
		if client.IP != "" {
			var err error
			if to.Client.IP, err = netip.ParseAddr(client.IP); err != nil && !masked {
				return fmt.Errorf("read a logged client: %w", err)
			}
		}
	}
	if in.HTTP != "" {
		var http struct {
			Method  string            `json:"method"`
			Path    string            `json:"path"`
			Headers map[string]string `json:"headers"`
		}
		if err := util.UnmarshalJSON([]byte(in.HTTP), &http); err != nil {
			return fmt.Errorf("read a logged request: %w", err)
		}
		to.HTTP = &models.ProxiedFacts{Method: http.Method, Path: http.Path, Headers: http.Headers}
	}
	return nil
}

// ChangeKind is the kind of difference between a decision and the recorded one.
type ChangeKind string

// The kinds of changes.
const (
	NewlyAllowed ChangeKind = "newly_allowed"
	NewlyDenied  ChangeKind = "newly_denied"
	// OtherReasons is a denial for other reasons than before.
	OtherReasons ChangeKind = "other_reasons"
	// OtherGrant is an allowance by another scope, or with other headers.
	OtherGrant ChangeKind = "other_grant"
)

// Compare returns how a decision differs from another one on the same input, ""
// if it does not. Messages do not count, reasons' codes do. headers says whether
// those of before are known.
func Compare(before, after models.Decision, headers bool) ChangeKind {
	switch {
	case !before.Allowed && after.Allowed:
		return NewlyAllowed
	case before.Allowed && !after.Allowed:
		return NewlyDenied
	case !before.Allowed && reasonsOf(before) != reasonsOf(after):
		return OtherReasons
	case before.Allowed && (before.ScopeID != after.ScopeID || headers && !sameHeaders(before.Headers, after.Headers)):
		return OtherGrant
	}
	return ""
}

func sameHeaders(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			return false
		}
	}
	return true
}

// reasonsOf names the reasons of a denial, as a key.
func reasonsOf(d models.Decision) string {
	codes := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		codes[i] = string(r.Code)
	}
	slices.Sort(codes)
	return strings.Join(slices.Compact(codes), " ")
}

// ReplayReport says what a policy would have decided.
type ReplayReport struct {
	Revision string     `json:"revision"` // of the policy
	From     *time.Time `json:"from"`     // when the first and the last decision were made; nil: there are none
	To       *time.Time `json:"to"`
	Replayed int64      `json:"replayed"`
	Skipped  int64      `json:"skipped"` // that the policy was not asked for, or that have no input any more
	// Masked counts those replayed whose input a mask has changed. If
	// the policy looks at what is masked, it may answer otherwise.
	Masked       int64 `json:"masked"`
	NewlyAllowed int64 `json:"newly_allowed"`
	NewlyDenied  int64 `json:"newly_denied"`
	OtherReasons int64 `json:"other_reasons"`
	OtherGrant   int64 `json:"other_grant"`
	// Groups are the changes by kind and reasons, the largest first.
	Groups     []ReplayGroup `json:"groups"`
	MoreGroups int           `json:"more_groups,omitempty"` // that are left out
}

// Changes is the number of decisions that would be others.
func (r *ReplayReport) Changes() int64 {
	return r.NewlyAllowed + r.NewlyDenied + r.OtherReasons + r.OtherGrant
}

// ReplayGroup are decisions that change alike.
type ReplayGroup struct {
	Kind ChangeKind `json:"kind"`
	// Reasons say why it was denied before, for what is newly allowed, else why it
	// is denied now. There are none for another grant.
	Reasons  []ReplayReason  `json:"reasons"`
	Count    int64           `json:"count"`
	Examples []ReplayExample `json:"examples"` // the first ones, by id
}

// ReplayReason is a reason with the rule that gives it under the policy.
type ReplayReason struct {
	Code  models.ReasonCode `json:"code"`
	Title string            `json:"title,omitempty"` // of the rule; "" if none is annotated with the code
	File  string            `json:"file,omitempty"`
	Line  int               `json:"line,omitempty"`
}

// ReplayExample is one decision that would be another.
type ReplayExample struct {
	ID      string              `json:"id"`
	At      time.Time           `json:"at"`
	Request string              `json:"request"` // domain:type:entity:operation
	TokenID string              `json:"token_id,omitempty"`
	UserID  string              `json:"user_id,omitempty"`
	Before  []models.ReasonCode `json:"before"` // reasons; none: allowed
	After   []models.ReasonCode `json:"after"`
	Masked  bool                `json:"masked,omitempty"`
}

// ReplayOptions say how a log is replayed.
type ReplayOptions struct {
	// Base, if not nil, is the policy to compare with, in place of what was decided.
	Base *engine.Snapshot
	// Examples is the number of examples that are kept of each group. Default: 5.
	Examples int
	// Groups is the number of groups that are reported, the largest first; 0: all. The reasons are
	// the policy's choice.
	Groups int
}

// ReplayEvents is [Replay] of events of OPA's decision log, one to a line.
func ReplayEvents(ctx context.Context, s *engine.Snapshot, events io.Reader, opts ReplayOptions) (*ReplayReport, error) {
	return Replay(ctx, s, func(fn func(models.LoggedDecision) error) error { return models.EachEvent("events", events, fn) }, opts)
}

// defaultExamples is the number of changed decisions that are told of each kind.
const defaultExamples = 5

// Replay makes logged decisions again under a policy and reports what would be
// decided otherwise. each calls its argument with one decision after the other, and
// passes its error on. The report depends on the decisions and the policy alone.
func Replay(ctx context.Context, s *engine.Snapshot, each func(func(models.LoggedDecision) error) error, opts ReplayOptions) (*ReplayReport, error) {
	opts.Examples = cmp.Or(opts.Examples, defaultExamples)
	workers := runtime.GOMAXPROCS(0)
	r := &replay{policy: s, opts: opts, rules: ReasonRulesOf(s)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan []models.LoggedDecision, workers)
	parts := make([]*replayed, workers)
	var wg sync.WaitGroup
	for i := range parts {
		parts[i] = &replayed{groups: map[groupKey]*ReplayGroup{}}
		wg.Go(func() {
			for chunk := range chunks {
				if err := r.some(ctx, parts[i], chunk); err != nil {
					cancel(err)
				}
			}
		})
	}
	const perChunk = 128
	var chunk []models.LoggedDecision
	hand := func() error {
		select {
		case chunks <- chunk:
			chunk = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := each(func(l models.LoggedDecision) error {
		if chunk = append(chunk, l); len(chunk) < perChunk {
			return nil
		}
		return hand()
	})
	if err == nil {
		err = hand()
	}
	close(chunks)
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("replay decisions: %w", err)
	}
	return r.report(parts), nil
}

// replay is shared by the workers of a replay.
type replay struct {
	policy *engine.Snapshot
	opts   ReplayOptions
	rules  map[models.ReasonCode]ReplayReason
}

// replayed is the result of one worker.
type replayed struct {
	ReplayReport
	caches [2]FactCache // of the policy and of the one that it is compared with
	groups map[groupKey]*ReplayGroup
}

type groupKey struct {
	kind    ChangeKind
	reasons string
}

func (r *replay) some(ctx context.Context, p *replayed, chunk []models.LoggedDecision) error {
	for i := range chunk {
		l := &chunk[i]
		if p.From == nil || l.At.Before(*p.From) {
			p.From = &l.At
		}
		if p.To == nil || l.At.After(*p.To) {
			p.To = &l.At
		}
		after, err := ReplayDecision(ctx, r.policy, l, &p.caches[0])
		before, headers := l.Decision, l.HeadersKnown()
		if err == nil && r.opts.Base != nil {
			before, err = ReplayDecision(ctx, r.opts.Base, l, &p.caches[1])
			headers = true
		}
		if errors.Is(err, ErrNotReplayable) {
			p.Skipped++
			continue
		}
		if err != nil {
			return err
		}
		p.Replayed++
		masked := l.InputMasked()
		if masked {
			p.Masked++
		}
		r.note(p, l, before, after, Compare(before, after, headers), masked)
	}
	return nil
}

func (r *replay) note(p *replayed, l *models.LoggedDecision, before, after models.Decision, kind ChangeKind, masked bool) {
	because := after
	switch kind {
	case "":
		return
	case NewlyAllowed:
		p.NewlyAllowed++
		because = before
	case NewlyDenied:
		p.NewlyDenied++
	case OtherReasons:
		p.OtherReasons++
	case OtherGrant:
		p.OtherGrant++
	}
	key := groupKey{kind, reasonsOf(because)}
	g := p.groups[key]
	if g == nil {
		g = &ReplayGroup{Kind: kind, Reasons: []ReplayReason{}}
		for _, code := range codesOf(because) {
			reason := r.rules[code]
			reason.Code = code
			g.Reasons = append(g.Reasons, reason)
		}
		p.groups[key] = g
	}
	g.Count++
	g.Examples = r.firstOf(append(g.Examples, ReplayExample{
		ID: l.ID, At: l.At, Request: l.Request.Scope(), TokenID: l.TokenID, UserID: l.UserID,
		Before: codesOf(before), After: codesOf(after), Masked: masked,
	}))
}

// firstOf keeps the first examples, by id, so that workers do not make a
// difference.
func (r *replay) firstOf(examples []ReplayExample) []ReplayExample {
	slices.SortFunc(examples, func(a, b ReplayExample) int { return cmp.Compare(a.ID, b.ID) })
	return examples[:min(len(examples), r.opts.Examples)]
}

func codesOf(d models.Decision) []models.ReasonCode {
	codes := make([]models.ReasonCode, 0, len(d.Reasons))
	for _, reason := range d.Reasons {
		codes = append(codes, reason.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// report adds up what the workers found.
func (r *replay) report(parts []*replayed) *ReplayReport {
	sum := &ReplayReport{Revision: r.policy.Revision(), Groups: []ReplayGroup{}}
	groups := map[groupKey]*ReplayGroup{}
	for _, p := range parts {
		if p.From != nil && (sum.From == nil || p.From.Before(*sum.From)) {
			sum.From = p.From
		}
		if p.To != nil && (sum.To == nil || p.To.After(*sum.To)) {
			sum.To = p.To
		}
		sum.Replayed += p.Replayed
		sum.Skipped += p.Skipped
		sum.Masked += p.Masked
		sum.NewlyAllowed += p.NewlyAllowed
		sum.NewlyDenied += p.NewlyDenied
		sum.OtherReasons += p.OtherReasons
		sum.OtherGrant += p.OtherGrant
		for key, g := range p.groups {
			if groups[key] == nil {
				groups[key] = g
				continue
			}
			groups[key].Count += g.Count
			groups[key].Examples = r.firstOf(append(groups[key].Examples, g.Examples...))
		}
	}
	for _, g := range groups {
		sum.Groups = append(sum.Groups, *g)
	}
	slices.SortFunc(sum.Groups, func(a, b ReplayGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Examples[0].ID, b.Examples[0].ID))
	})
	if most := r.opts.Groups; most > 0 && len(sum.Groups) > most {
		sum.Groups, sum.MoreGroups = sum.Groups[:most], len(sum.Groups)-most
	}
	return sum
}

// ReasonRulesOf finds the rule of each reason by its annotation.
func ReasonRulesOf(s *engine.Snapshot) ReasonRules {
	rules := ReasonRules{}
	for _, a := range s.Compiler().GetAnnotationSet().Flatten() {
		code, ok := a.Annotations.Custom["code"].(string)
		if !ok || a.Location == nil {
			continue
		}
		rules[models.ReasonCode(code)] = ReplayReason{Title: a.Annotations.Title, File: strings.TrimPrefix(a.Location.File, "/"), Line: a.Location.Row}
	}
	return rules
}
