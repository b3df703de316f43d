package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"patrol/bench/frozen"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// LoadPolicy compiles the default policy and has its plans answer, as in a server.
func LoadPolicy(ctx context.Context) (*engine.Snapshot, error) {
	source, err := bundles.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	policy, err := engine.Load(ctx, source)
	if err != nil {
		return nil, err
	}
	return policy, policy.Hasten(ctx, engine.DefaultTrials)
}

// LoadOwnRules is LoadPolicy with so many rules of a team's own, each of which denies one
// model.
func LoadOwnRules(ctx context.Context, rules int) (*engine.Snapshot, error) {
	source, err := bundles.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	var own strings.Builder
	own.WriteString("# METADATA\n# scope: package\n# title: Own rules\npackage patrol.custom\n")
	for i := range rules {
		fmt.Fprintf(&own, "\n# METADATA\n# title: Rule %d\n# custom:\n#   code: own_%d\n#   message: No.\ndeny contains rego.metadata.rule().custom if input.request.entity == \"secret-%d\"\n", i, i, i)
	}
	source.Files = maps.Clone(source.Files)
	source.Files["custom/own.rego"] = []byte(own.String())
	policy, err := engine.Load(ctx, source)
	if err != nil {
		return nil, err
	}
	const fewTrials = 100 // the measure is of what they say, not of whether it is right
	return policy, policy.Hasten(ctx, fewTrials)
}

// Activate is LoadPolicy, with the CPU time that it takes this process. The trials are
// made once in a process for each policy.
func Activate(ctx context.Context) (policy *engine.Snapshot, cpu time.Duration, err error) {
	before, err := ownCPU()
	if err != nil {
		return nil, 0, err
	}
	if policy, err = LoadPolicy(ctx); err != nil {
		return nil, 0, err
	}
	after, err := ownCPU()
	return policy, after - before, err
}

// PolicyMemory returns how many bytes of the heap each further policy takes that is loaded.
func PolicyMemory(ctx context.Context) (int64, error) {
	const several = 4
	before, kept := liveHeap(), make([]*engine.Snapshot, several)
	for i := range kept {
		var err error
		if kept[i], err = LoadPolicy(ctx); err != nil {
			return 0, err
		}
	}
	bytes := (liveHeap() - before) / several
	runtime.KeepAlive(kept)
	return bytes, nil
}

// liveHeap returns how many bytes are in use when all garbage is collected.
func liveHeap() int64 {
	var m runtime.MemStats
	for range 2 { // what has a finalizer goes the second time
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// OpenStore opens an empty database and saves the world in it. Close it after
// use.
func OpenStore(ctx context.Context, url string, w *World) (*store.Store, error) {
	s, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return nil, err
	}
	if _, _, err = s.Migrate(ctx); err == nil {
		err = w.Save(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenWorld makes a world of tokens and saves it in a database in dir, at the URL.
func OpenWorld(ctx context.Context, dir string, tokens int) (w *World, url string, s *store.Store, err error) {
	url = "sqlite://" + filepath.Join(dir, "patrol.db")
	if w, err = NewWorld(tokens, time.Now()); err == nil {
		s, err = OpenStore(ctx, url, w)
	}
	return w, url, s, err
}

// NewAuthorizer returns an authorizer over the store. Until its Run has read
// the change feed it caches nothing.
func NewAuthorizer(w *World, s *store.Store, policy *engine.Snapshot) (*authz.Authorizer, error) {
	return authz.New(authz.Config{
		Keys: w.Keys, Policy: engine.New(policy), Facts: s, Feed: s, Journal: s,
		Logger: slog.New(slog.DiscardHandler),
	})
}

// StartCaching runs a, and returns once it caches. stop ends it.
func StartCaching(ctx context.Context, a *authz.Authorizer) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = func() error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	for deadline := time.Now().Add(10 * time.Second); a.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the authorizer does not get ready: %w", a.Ready()), stop())
		}
	}
	return stop, nil
}

// An Op does once what is measured. It fails if the outcome is not the expected
// one.
type Op func() error

// ParseVerify does the checks of a presented token before anything is known
// about it.
func ParseVerify(w *World) Op {
	h := w.Holders[0]
	text := h.Token.Reveal()
	return func() error {
		token, err := models.ParseToken(text)
		if err == nil && !w.Keys.Verify(token, h.PAT.KeyID, h.PAT.MAC) {
			err = errors.New("the token does not verify")
		}
		return err
	}
}

// Evaluate is one evaluation of the policy on facts that are at hand. It goes
// through the case's facts in turn, as [Authorize] goes through the tokens: what
// is no longer in the processor's caches costs both the same.
func Evaluate(ctx context.Context, policy *engine.Snapshot, c Case) Op {
	i := 0
	return func() error {
		i++
		d, err := policy.Decide(ctx, c.Request, c.Facts[i%len(c.Facts)], c.Now)
		if err == nil && d.Allowed != c.Allowed {
			err = fmt.Errorf("%s: allowed %t, reasons %v", c.Name, d.Allowed, d.Reasons)
		}
		return err
	}
}

// EvaluateBefore is the same by the policy and the evaluation of before.
func EvaluateBefore(ctx context.Context, policy *frozen.Snapshot, c Case) Op {
	i := 0
	return func() error {
		i++
		d, err := policy.Decide(ctx, c.Request, c.Before[i%len(c.Before)], c.Now)
		if err == nil && d.Allowed != c.Allowed {
			err = fmt.Errorf("%s: before, allowed %t, reasons %v", c.Name, d.Allowed, d.Reasons)
		}
		return err
	}
}

// Models judges requests for a hundred models by one token.
func Models(ctx context.Context, policy *engine.Snapshot, c Case) Op {
	reqs := make([]models.Request, 100)
	for i := range reqs {
		reqs[i] = c.Request
		reqs[i].Entity = fmt.Sprintf("model-%d", i)
	}
	return func() error {
		series := policy.Series()
		defer series.End()
		for _, req := range reqs {
			if _, err := series.Decide(ctx, req, c.Facts[0], c.Now); err != nil {
				return err
			}
		}
		return nil
	}
}

// Users judges one request for each of n users.
func Users(ctx context.Context, policy *engine.Snapshot, c Case, n int) Op {
	facts := make([]engine.Facts, n)
	for i := range facts {
		facts[i] = c.Facts[i%len(c.Facts)]
		facts[i].User = engine.UserValue(models.User{ID: models.NewID(), Email: fmt.Sprintf("user%d@example.com", i)})
	}
	return func() error {
		series := policy.Series()
		defer series.End()
		for _, f := range facts {
			if _, err := series.Decide(ctx, c.Request, f, c.Now); err != nil {
				return err
			}
		}
		return nil
	}
}

// Authorize is one call of the path that every surface takes. It goes through
// the tokens in turn.
func Authorize(ctx context.Context, a *authz.Authorizer, w *World) Op {
	calls := make([]authz.Call, len(w.Holders))
	for i, h := range w.Holders {
		calls[i] = authz.Call{
			Token: h.Token.Reveal(), Request: Request(), Surface: "authorize",
			IP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), UserAgent: "bench",
		}
	}
	i := 0
	return func() error {
		i++
		if d := a.Authorize(ctx, calls[i%len(calls)]); !d.Allowed {
			return fmt.Errorf("refused: %v", d.Reasons)
		}
		return nil
	}
}
