package decisionlog_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
	"patrol/server/authz"
	"patrol/server/decisionlog"
)

// database is a log in memory whose writes can be made to fail or held up.
type database struct {
	mu     sync.Mutex
	added  []models.LoggedDecision
	counts []models.DecisionCounts
	pruned int
	reach  models.LogReach
	fail   error
	gate   chan struct{} // nil: open
}

func (d *database) Add(ctx context.Context, batch []models.LoggedDecision) error {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	d.added = append(d.added, batch...)
	return nil
}

func (d *database) AddCounts(_ context.Context, c models.DecisionCounts) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = append(d.counts, c)
	return nil
}

func (d *database) PruneDecisions(context.Context, models.LogBounds) (models.LogReach, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pruned++
	return d.reach, nil
}

func (*database) HashKey(context.Context) ([]byte, error) { return bytes.Repeat([]byte{1}, 32), nil }

func (d *database) has() []models.LoggedDecision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]models.LoggedDecision(nil), d.added...)
}

func (d *database) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// policy loads the default policy, with some files in place of its own.
func policy(t *testing.T, files map[string]string) *engine.Engine {
	t.Helper()
	src := engine.Source{Name: "test", Files: map[string][]byte{}}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			src.Files[path], err = policies.FS.ReadFile(path)
		}
		return err
	}))
	for name, text := range files {
		src.Files[name] = []byte(text)
	}
	s, err := engine.Load(t.Context(), src)
	require.NoError(t, err)
	return engine.New(s)
}

// bed is a log that runs until stop, or the end of the test.
type bed struct {
	*decisionlog.Log
	t        *testing.T
	registry *prometheus.Registry
	stop     func()
}

func start(t *testing.T, deps decisionlog.Deps, change func(*decisionlog.Config)) *bed {
	t.Helper()
	cfg := decisionlog.DefaultConfig()
	cfg.FlushInterval = time.Millisecond
	if change != nil {
		change(&cfg)
	}
	b := &bed{t: t, registry: prometheus.NewRegistry()}
	if deps.Policy == nil {
		deps.Policy = policy(t, nil)
	}
	deps.Registerer, deps.Logger = b.registry, slog.New(slog.DiscardHandler)
	var err error
	b.Log, err = decisionlog.New(t.Context(), cfg, deps)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); assert.NoError(t, b.Run(ctx)) }()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
	return b
}

// metric sums a counter up over those of its label values that are given.
func (b *bed) metric(name string, labels ...string) (sum float64) {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasAll(m.GetLabel(), labels) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func hasAll(labels []*dto.LabelPair, values []string) bool {
	for _, v := range values {
		found := false
		for _, l := range labels {
			found = found || l.GetValue() == v
		}
		if !found {
			return false
		}
	}
	return true
}

var now = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

// record is an allowance on facts that the policy was asked about.
func record(id string, edit ...func(*authz.Record)) authz.Record {
	r := authz.Record{
		Decision: models.Decision{ID: id, Allowed: true, TokenID: "t1", UserID: "u1", ScopeID: "s1", Revision: "r"},
		Request:  models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"},
		Facts: engine.Facts{
			Token: engine.TokenValue(models.PAT{ID: "t1", Name: "ci", ExpiresAt: now.Add(time.Hour)}),
			User:  engine.UserValue(models.User{ID: "u1", Email: "ann@example.com"}),
		},
		JudgedAt: now, At: now, Took: time.Microsecond, Surface: "authorize", IP: netip.MustParseAddr("192.0.2.7"),
	}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func denied(r *authz.Record) {
	r.Decision.Allowed, r.Decision.Reasons = false, []models.Reason{{Code: models.OutOfScope, Message: "No."}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, time.Millisecond, what)
}

func TestDecisionsGetIntoTheDatabase(t *testing.T) {
	db := &database{}
	b := start(t, decisionlog.Deps{Database: db}, nil)
	require.NoError(t, b.Record(t.Context(), record("1", func(r *authz.Record) { r.Request.Context = map[string]any{"n": json.Number("1e3")} })))
	require.NoError(t, b.Record(t.Context(), record("2", denied)))
	require.NoError(t, b.Record(t.Context(), record("3", denied, func(r *authz.Record) { r.JudgedAt, r.Facts = time.Time{}, engine.Facts{} })))
	eventually(t, "three decisions", func() bool { return len(db.has()) == 3 })
	got := db.has()
	assert.Equal(t, "192.0.2.7", got[0].RequestedBy)
	assert.Equal(t, `{"n":1e3}`, got[0].Input.Context)
	assert.JSONEq(t, `{"id":"u1","email":"ann@example.com","admin":false,"disabled":false}`, got[0].Input.User.JSON)
	assert.Equal(t, now.Unix(), got[0].Input.Now)
	assert.Nil(t, got[0].Input.Domain)
	assert.False(t, got[1].Allowed)
	assert.Nil(t, got[2].Input, "the policy was not asked")
	assert.Equal(t, "acme", got[2].Request.Domain)
	b.stop()
	assert.Positive(t, db.pruned)
	require.NotEmpty(t, db.counts)
	total := models.DecisionCounts{}
	for _, c := range db.counts {
		total.Outcomes = append(total.Outcomes, c.Outcomes...)
		total.Used = append(total.Used, c.Used...)
		total.Days = append(total.Days, c.Days...)
	}
	var allowed, refused, days int64
	for _, o := range total.Outcomes {
		if o.Outcome == models.OutcomeAllow {
			allowed += o.Count
		} else {
			refused += o.Count
		}
	}
	for _, d := range total.Days {
		days += d.Recorded
	}
	assert.Equal(t, []int64{1, 2, 3}, []int64{allowed, refused, days})
	require.Len(t, total.Used, 1)
	assert.Equal(t, "s1", total.Used[0].ScopeID)
	assert.Equal(t, "llama3", total.Used[0].Entity)
}

func TestWhatIsLeftIsWrittenAtTheEnd(t *testing.T) {
	db := &database{}
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) { c.FlushInterval = time.Hour })
	for i := range 5000 {
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint(i))))
	}
	b.stop()
	got := db.has()
	require.Len(t, got, 5000)
	for i := range got {
		require.Equal(t, fmt.Sprint(i), got[i].ID, "in order")
	}
	require.NoError(t, b.Record(t.Context(), record("late")), "nobody is kept from deciding")
	assert.Len(t, db.has(), 5000)
}

func TestAFullBufferDropsAllowancesFirst(t *testing.T) {
	db := &database{}
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) {
		c.FlushInterval, c.Buffer, c.Endpoint.BatchSize = time.Hour, 64<<10, 4<<10
	})
	gate := make(chan struct{})
	db.set(func() { db.gate = gate })
	const allowances, denials = 400, 50 // four times what fits; what fits
	for i := range allowances {
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint("a", i))))
	}
	for i := range denials {
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint("d", i), denied)))
	}
	close(gate)
	b.stop()
	allowed, refused := 0, 0
	for _, l := range db.has() {
		if l.Allowed {
			allowed++
		} else {
			refused++
		}
	}
	lost := int(b.metric("patrol_decision_log_dropped_total", "allow"))
	assert.Positive(t, lost)
	assert.Equal(t, allowances, allowed+lost, "what is lost is counted")
	assert.Equal(t, denials, refused, "denials stay")
	assert.Zero(t, b.metric("patrol_decision_log_dropped_total", "deny"))
}

func TestAFailingDatabaseIsTriedAgain(t *testing.T) {
	db := &database{fail: models.NewError(models.CodeUnavailable, "down")}
	b := start(t, decisionlog.Deps{Database: db}, nil)
	require.NoError(t, b.Record(t.Context(), record("1")))
	eventually(t, "a failure", func() bool { return b.metric("patrol_decision_log_write_errors_total", "database") > 0 })
	db.set(func() { db.fail = nil })
	eventually(t, "the decision", func() bool { return len(db.has()) == 1 })
	assert.Zero(t, b.metric("patrol_decision_log_dropped_total"))
}

func TestRequiredRecords(t *testing.T) {
	required := func(c *decisionlog.Config) {
		c.Required, c.Wait, c.FlushInterval = true, 100*time.Millisecond, time.Hour
	}
	t.Run("an allowance waits until it is on record", func(t *testing.T) {
		db := &database{}
		b := start(t, decisionlog.Deps{Database: db}, required)
		require.NoError(t, b.Record(t.Context(), record("1")))
		assert.Len(t, db.has(), 1)
	})
	t.Run("a denial does not", func(t *testing.T) {
		db := &database{gate: make(chan struct{})}
		b := start(t, decisionlog.Deps{Database: db}, required)
		require.NoError(t, b.Record(t.Context(), record("1", denied)))
		close(db.gate)
	})
	t.Run("no record, no allowance", func(t *testing.T) {
		db := &database{fail: errors.New("down")}
		b := start(t, decisionlog.Deps{Database: db}, required)
		assert.Error(t, b.Record(t.Context(), record("1")))
		assert.InDelta(t, 1, b.metric("patrol_decision_log_required_failures_total"), 0)
	})
	t.Run("nor when the caller does not wait", func(t *testing.T) {
		db := &database{gate: make(chan struct{})}
		b := start(t, decisionlog.Deps{Database: db}, required)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, b.Record(ctx, record("1")), context.Canceled)
		close(db.gate)
	})
	t.Run("nor after the log has ended", func(t *testing.T) {
		b := start(t, decisionlog.Deps{Database: &database{}}, required)
		b.stop()
		assert.Error(t, b.Record(t.Context(), record("1")))
	})
	t.Run("nor when the buffer is full", func(t *testing.T) {
		db := &database{gate: make(chan struct{})}
		b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) {
			required(c)
			c.Buffer, c.Endpoint.BatchSize, c.Wait = 64<<10, 4<<10, time.Hour
		})
		const calls = 500 // more than buffer, queue and what is being written hold
		errs := make(chan error, calls)
		for range calls {
			go func() { errs <- b.Record(t.Context(), record("1")) }()
		}
		assert.Error(t, <-errs, "it does not wait for what cannot be")
		close(db.gate)
		for range calls - 1 {
			<-errs //nolint:errcheck // recorded or not
		}
	})
}

func lines(t *testing.T, path string) (found []models.LoggedDecision) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		l, err := models.ParseEvent(in.Bytes())
		require.NoError(t, err)
		found = append(found, l)
	}
	require.NoError(t, in.Err())
	return found
}

func TestAFileOfLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "decisions.jsonl")
	inFile := func(c *decisionlog.Config) { c.File.Path = path }
	b := start(t, decisionlog.Deps{}, inFile)
	require.NoError(t, b.Record(t.Context(), record("1")))
	b.stop()
	b = start(t, decisionlog.Deps{}, inFile)
	require.NoError(t, b.Record(t.Context(), record("2", denied)))
	b.stop()
	got := lines(t, path)
	require.Len(t, got, 2, "a file that is there is continued")
	assert.Equal(t, "1", got[0].ID)
	assert.Equal(t, "2", got[1].ID)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestAFileIsRotated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "decisions.jsonl")
	var mu sync.Mutex
	at := now
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	b := start(t, decisionlog.Deps{Clock: clock}, func(c *decisionlog.Config) {
		c.File = decisionlog.FileConfig{Path: path, MaxSize: 1 << 20, MaxAge: time.Hour, MaxFiles: 2}
	})
	written := 0
	write := func(r authz.Record) {
		t.Helper()
		require.NoError(t, b.Record(t.Context(), r))
		written++
		eventually(t, "it is written", func() bool { return int(b.metric("patrol_decision_log_recorded_total", "file")) == written })
	}
	for i := range 5 {
		write(record(fmt.Sprint(i)))
		mu.Lock()
		at = at.Add(2 * time.Hour)
		mu.Unlock()
	}
	write(record("large", func(r *authz.Record) { r.Path, r.Method = strings.Repeat("x", 1<<20), "GET" }))
	write(record("after"))
	b.stop()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, names, 3, "two are kept: %v", names)
	assert.Equal(t, "after", lines(t, path)[0].ID, "by size")
	info, err := os.Stat(names[1])
	require.NoError(t, err)
	assert.Greater(t, info.Size(), int64(1<<20))
	assert.Equal(t, "4", lines(t, names[0])[0].ID, "by age")
}

func TestBatchesArePosted(t *testing.T) {
	type batch struct {
		header http.Header
		events []json.RawMessage
	}
	var mu sync.Mutex
	var got []batch
	failures := []int{503, 429, 400, 400, 400} // the first batch is tried again, the second is given up
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zip, err := gzip.NewReader(r.Body)
		var events []json.RawMessage
		if err == nil {
			err = json.NewDecoder(zip).Decode(&events)
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			w.WriteHeader(http.StatusTeapot)
		case len(failures) > 0 && (len(failures) > 3 || len(got) > 0):
			w.WriteHeader(failures[0])
			failures = failures[1:]
		default:
			got = append(got, batch{r.Header, events})
		}
	}))
	t.Cleanup(endpoint.Close)
	b := start(t, decisionlog.Deps{}, func(c *decisionlog.Config) {
		c.Endpoint = decisionlog.EndpointConfig{URL: endpoint.URL + "/logs", Token: "key", BatchSize: 4 << 10, Timeout: time.Minute}
	})
	has := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == n }
	}
	require.NoError(t, b.Record(t.Context(), record("1")))
	eventually(t, "the first", has(1))
	require.NoError(t, b.Record(t.Context(), record("2")))
	eventually(t, "the second is given up", func() bool { return b.metric("patrol_decision_log_dropped_total", "endpoint") == 1 })
	b.stop()
	require.Len(t, got, 1)
	assert.Equal(t, "application/json", got[0].header.Get("Content-Type"))
	assert.Equal(t, "Bearer key", got[0].header.Get("Authorization"))
	l, err := models.ParseEvent(got[0].events[0])
	require.NoError(t, err)
	assert.Equal(t, "1", l.ID)

	b = start(t, decisionlog.Deps{}, func(c *decisionlog.Config) {
		c.FlushInterval = time.Hour
		c.Endpoint = decisionlog.EndpointConfig{URL: endpoint.URL, BatchSize: 4 << 10, Timeout: time.Minute}
	})
	for i := range 100 {
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint("n", i))))
	}
	b.stop()
	total := 0
	for _, batch := range got[1:] {
		total += len(batch.events)
	}
	assert.Equal(t, 100, total)
	assert.Greater(t, len(got), 5, "batches are of bounded size")
}

func TestASinkHoldsUpNoOther(t *testing.T) {
	db := &database{gate: make(chan struct{})}
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) { c.File.Path = path })
	require.NoError(t, b.Record(t.Context(), record("1")))
	eventually(t, "the file has it", func() bool { return b.metric("patrol_decision_log_recorded_total", "file") == 1 })
	assert.Empty(t, db.has())
	close(db.gate)
}

func TestValidate(t *testing.T) {
	require.NoError(t, decisionlog.DefaultConfig().Validate())
	for name, change := range map[string]func(*decisionlog.Config){
		"wait":            func(c *decisionlog.Config) { c.Wait = 0 },
		"flush interval":  func(c *decisionlog.Config) { c.FlushInterval = 0 },
		"buffer":          func(c *decisionlog.Config) { c.Buffer = 1 },
		"retention":       func(c *decisionlog.Config) { c.Retention = 0 },
		"maximum of rows": func(c *decisionlog.Config) { c.MaxRows = -1 },
		"endpoint":        func(c *decisionlog.Config) { c.Endpoint.URL = "ftp://x" },
		"file":            func(c *decisionlog.Config) { c.File = decisionlog.FileConfig{Path: "x"} },
	} {
		c := decisionlog.DefaultConfig()
		change(&c)
		assert.ErrorContains(t, c.Validate(), name)
	}
	_, err := decisionlog.New(t.Context(), decisionlog.DefaultConfig(), decisionlog.Deps{Policy: policy(t, nil)})
	assert.ErrorContains(t, err, "nowhere")
}

// stranger is a refusal of somebody who showed no token that verifies.
func stranger(edit ...func(*authz.Record)) authz.Record {
	r := authz.Record{
		Decision: models.Deny(models.TokenUnknown), Request: models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"},
		At: now, Surface: "authorize", IP: netip.MustParseAddr("198.51.100.9"),
	}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func TestNoiseNeverWaitsBeforeOthers(t *testing.T) {
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprint("required: ", required), func(t *testing.T) {
			db := &database{}
			b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) {
				c.Required, c.Wait, c.Buffer, c.Endpoint.BatchSize = required, time.Minute, 64<<10, 4<<10
				c.Refused.Samples, c.Refused.SamplesInAll = 1_000_000, 1_000_000 // as much noise as fits is kept
			})
			ctx, stop := context.WithCancel(t.Context())
			var noise sync.WaitGroup
			for range 4 {
				noise.Go(func() {
					for ctx.Err() == nil {
						assert.Len(t, b.Refused(ctx, stranger()), models.IDLength)
					}
				})
			}
			const calls = 50
			for i := range calls {
				require.NoError(t, b.Record(t.Context(), record(fmt.Sprint("r", i))))
				if !required {
					eventually(t, "it is written", func() bool { return slicesHas(db.has(), fmt.Sprint("r", i)) })
				}
			}
			stop()
			noise.Wait()
			b.stop()
			assert.Zero(t, b.metric("patrol_decision_log_dropped_total", "allow"))
		})
	}
}

func slicesHas(list []models.LoggedDecision, id string) bool {
	return slices.ContainsFunc(list, func(l models.LoggedDecision) bool { return l.ID == id })
}

// stuck is a database that takes what is about tokens that verified, and nothing else.
type stuck struct{ database }

func (d *stuck) Add(ctx context.Context, batch []models.LoggedDecision) error {
	if batch[0].TokenID == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.database.Add(ctx, batch)
}

func TestAStuckWriteOfNoiseHoldsUpNobody(t *testing.T) {
	db := &stuck{}
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) { c.Required, c.Wait = true, time.Minute })
	b.Refused(t.Context(), stranger())
	for i := range 20 {
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint(i))))
	}
	assert.Len(t, db.has(), 20)
}

// picky is a database that refuses one decision.
type picky struct{ database }

func (d *picky) Add(ctx context.Context, batch []models.LoggedDecision) error {
	if slicesHas(batch, "bad") {
		return models.NewError(models.CodeInternal, "that cannot be written")
	}
	return d.database.Add(ctx, batch)
}

func TestOneBadRecordLosesNoOthers(t *testing.T) {
	db := &picky{}
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) { c.FlushInterval = time.Hour })
	for i := range 1000 {
		id := fmt.Sprint(i)
		if i == 700 {
			id = "bad"
		}
		require.NoError(t, b.Record(t.Context(), record(id)))
	}
	b.stop()
	assert.Len(t, db.has(), 999)
	assert.InDelta(t, 1, b.metric("patrol_decision_log_dropped_total"), 0)
}

func TestWhatIsWaitedForGoesFirst(t *testing.T) {
	db := &database{gate: make(chan struct{})}
	b := start(t, decisionlog.Deps{Database: db}, func(c *decisionlog.Config) {
		c.Required, c.Wait, c.FlushInterval = true, time.Minute, time.Hour
	})
	for i := range 10_000 { // a token that asks for what it may not have
		require.NoError(t, b.Record(t.Context(), record(fmt.Sprint("d", i), denied)))
	}
	recorded := make(chan error, 1)
	go func() {
		recorded <- b.Record(t.Context(), record("allowed", func(r *authz.Record) { r.Decision.TokenID = "t2" }))
	}()
	db.gate <- struct{}{}
	require.NoError(t, <-recorded)
	assert.True(t, slicesHas(db.has(), "allowed"), "it is in the first batch that is written")
	close(db.gate)
}

func TestRefusalsWithoutATokenAreCountedEverywhere(t *testing.T) {
	db := &database{}
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	var mu sync.Mutex
	var posted []string
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		zip, err := gzip.NewReader(r.Body)
		if !assert.NoError(t, err) {
			return
		}
		text, err := io.ReadAll(zip)
		assert.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		posted = append(posted, string(text))
	}))
	t.Cleanup(endpoint.Close)
	b := start(t, decisionlog.Deps{Database: db, Policy: policy(t, nil)}, func(c *decisionlog.Config) {
		c.File.Path, c.Endpoint.URL = path, endpoint.URL
		c.Refused.Samples = 2
	})
	require.NoError(t, b.Record(t.Context(), record("known")))
	ids := models.NewCountedIDs(bytes.Repeat([]byte{1}, 32))
	counted, kept := 0, map[string]bool{}
	for i := range 100 {
		id := b.Refused(t.Context(), stranger(func(r *authz.Record) { r.Further = i%10 > 0 }))
		if ids.Made(id) {
			counted++
		} else {
			kept[id] = true
		}
	}
	assert.Equal(t, 98, counted)
	assert.Len(t, kept, 2)
	b.stop()
	var inDatabase int
	for _, l := range db.has() {
		if l.TokenID == "" {
			assert.True(t, kept[l.ID])
			inDatabase++
		}
	}
	assert.Equal(t, 2, inDatabase)
	want := models.CountedRefusals{From: now.Truncate(time.Minute), Span: time.Minute, Address: "198.51.100.9", Reason: models.TokenUnknown, Calls: 10, Decisions: 100, Kept: 2}
	var sums []models.CountedRefusals
	var day int64
	for _, c := range db.counts {
		sums = append(sums, c.Refusals...)
		for _, o := range c.Outcomes {
			if o.TokenID == "" && o.Reason == models.TokenUnknown {
				day += o.Count
			}
		}
	}
	require.NotEmpty(t, sums)
	total := sums[0]
	for _, s := range sums[1:] {
		total.Add(s)
	}
	assert.Equal(t, want, total)
	assert.Equal(t, int64(100), day)

	require.Len(t, lines(t, path), 1, "the file of the others has none of it")
	refused, err := os.ReadFile(strings.TrimSuffix(path, ".jsonl") + "-refused.jsonl")
	require.NoError(t, err)
	events := 0
	require.NoError(t, models.EachEvent("refused", bytes.NewReader(refused), func(l models.LoggedDecision) error {
		events++
		assert.True(t, kept[l.ID])
		return nil
	}), "who reads decisions passes over counts")
	assert.Equal(t, 2, events)
	const event = `"path":"patrol/log/refused","result":{"reason":"token_unknown","seconds":60,"calls":10,"decisions":100,"kept":2},"requested_by":"198.51.100.9"`
	assert.Contains(t, string(refused), event)
	assert.Equal(t, 1, strings.Count(strings.Join(posted, ""), event))
	for _, text := range posted {
		assert.False(t, strings.Contains(text, `"known"`) && strings.Contains(text, "token_unknown"), "in requests of their own")
	}
	assert.InDelta(t, 2, b.metric("patrol_decision_log_refusals_total", "token_unknown", "true"), 0)
	assert.InDelta(t, 98, b.metric("patrol_decision_log_refusals_total", "token_unknown", "false"), 0)
}

func TestTheMaskAppliesToAddressesThatAreCounted(t *testing.T) {
	db := &database{}
	b := start(t, decisionlog.Deps{Database: db, Policy: policy(t, map[string]string{
		"custom/mask.rego": "package patrol.log\n\nmask contains \"/requested_by\"\n",
	})}, nil)
	for i := range 10 {
		b.Refused(t.Context(), stranger(func(r *authz.Record) { r.IP = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }))
	}
	b.stop()
	var decisions int64
	for _, c := range db.counts {
		for _, r := range c.Refusals {
			assert.Empty(t, r.Address)
			decisions += r.Decisions
		}
	}
	assert.Equal(t, int64(10), decisions)
}

func TestACutLogIsTold(t *testing.T) {
	var logged lockedBuffer
	since := now.Add(-time.Hour)
	db := &database{reach: models.LogReach{
		Verified: models.LogClass{Rows: 42, First: &since, CutTo: &since}, Refused: models.LogClass{Rows: 7}, Busiest: "busy", BusiestRows: 40,
	}}
	registry := prometheus.NewRegistry()
	l, err := decisionlog.New(t.Context(), decisionlog.DefaultConfig(), decisionlog.Deps{
		Database: db, Policy: policy(t, nil), Registerer: registry, Logger: slog.New(slog.NewTextHandler(&logged, nil)), Clock: func() time.Time { return now },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); assert.NoError(t, l.Run(ctx)) }()
	eventually(t, "a warning", func() bool {
		return strings.Contains(logged.String(), "does not reach back for decision_log.retention")
	})
	cancel()
	<-done
	assert.Contains(t, logged.String(), "busiest_token=busy its_rows=40")
	found := map[string]float64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetGauge() != nil && len(m.GetLabel()) == 1 {
				found[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	assert.Equal(t, map[string]float64{
		"patrol_decision_log_reach_seconds verified": 3600, "patrol_decision_log_reach_seconds refused": 0,
		"patrol_decision_log_rows verified": 42, "patrol_decision_log_rows refused": 7,
	}, found)
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
