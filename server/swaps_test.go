package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/internal/heap"
	"patrol/internal/policytest"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
	"patrol/server/manage"
)

// stamped is the default policy under a revision, which it tells in two ways, by its code
// and by its data: a probe is denied with a code that has both in it. It has passed the
// check.
func stamped(t *testing.T, revision string) (bundles.Record, []byte) {
	t.Helper()
	own, err := bundles.Read(t.Context(), "", nil)
	require.NoError(t, err)
	policytest.Lighten(own.Files)
	own.Files["patrol/stamp/data.json"] = fmt.Appendf(nil, `{"revision": %q}`, revision)
	own.Files["custom/stamp.rego"] = fmt.Appendf(nil, `package patrol.custom

# METADATA
# title: A probe is told which policy it is
reason := {"code": concat("_", [%q, data.patrol.stamp.revision]), "message": "It is a probe."} if {
	input.request.entity == "probe"
	input.token.name == "probe"
}
`, revision)
	b, err := bundles.Build(t.Context(), own, revision)
	require.NoError(t, err)
	report, err := workbench.Check(t.Context(), b.Source, workbench.CheckOptions{MinCoverage: -1, TestTimeout: time.Minute, Options: []engine.Option{engine.WithTimeout(time.Minute)}})
	require.NoError(t, err)
	require.True(t, report.Passed, "%v", report.Findings)
	return bundles.Record{
		Digest: b.Digest(), ArchiveDigest: bundles.ArchiveDigest(b.Archive), Revision: revision, Source: "swaps", Result: bundles.Result{Passed: true},
	}, b.Archive
}

// probing asks a server without pause for breath, several at a time, until it is stopped.
type probing struct {
	mu     sync.Mutex
	took   []time.Duration
	seen   map[string]int // revisions
	failed []string
	late   int // evaluations that took too long: the machine was busy with something else
	stop   context.CancelFunc
	done   sync.WaitGroup
	client *http.Client
}

var errLate = errors.New("the evaluation took too long")

const (
	probers    = 4
	probeEvery = 10 * time.Millisecond // of each
)

func (w *world) probe(token string) *probing {
	ctx, stop := context.WithCancel(w.t.Context())
	p := &probing{stop: stop, seen: map[string]int{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: probers}}}
	for n := range probers {
		p.done.Go(func() {
			ticker := time.NewTicker(probeEvery)
			defer ticker.Stop()
			for i := n; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				took, revision, err := ask(context.WithoutCancel(ctx), p.client, w.http.URL, token, i%2 == 0)
				p.mu.Lock()
				p.took = append(p.took, took)
				p.seen[revision]++
				switch {
				case errors.Is(err, errLate):
					p.late++
				case err != nil:
					p.failed = append(p.failed, err.Error())
				}
				p.mu.Unlock()
			}
		})
	}
	return p
}

// answers waits until as many requests are answered as are made in that time.
func (p *probing) answers(t *testing.T, load time.Duration) {
	t.Helper()
	limit := probers * int(load/probeEvery)
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.took) >= limit
	}, 10*load+time.Minute, probeEvery)
}

// ask makes one request that is a probe, or one that is allowed, and holds the answer
// against the revision that is in it.
func ask(ctx context.Context, client *http.Client, url, token string, probe bool) (took time.Duration, revision string, err error) {
	in := api.AuthorizeRequest{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read", Token: &token}
	if probe {
		in.Entity = "probe"
	}
	body, err := json.Marshal(in)
	if err != nil {
		return 0, "", err
	}
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/authorize", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	took = time.Since(begin)
	if err != nil {
		return took, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return took, "", fmt.Errorf("%s: %s", resp.Status, content)
	}
	var d api.Decision
	if err := json.Unmarshal(content, &d); err != nil {
		return took, "", err
	}
	good := d.Allowed
	if probe {
		good = !d.Allowed && len(d.Reasons) == 1 && string(d.Reasons[0].Code) == d.Revision+"_"+d.Revision
	}
	if len(d.Reasons) == 1 && d.Reasons[0].Code == models.PolicyError {
		return took, d.Revision, errLate
	}
	if !good {
		return took, d.Revision, fmt.Errorf("not an answer of one policy: %s", content)
	}
	return took, d.Revision, nil
}

// end stops asking and returns how long answers took, sorted.
func (p *probing) end(t *testing.T) []time.Duration {
	t.Helper()
	p.stop()
	p.done.Wait()
	p.client.CloseIdleConnections()
	assert.Empty(t, p.failed[:min(len(p.failed), 5)], "%d of %d requests failed", len(p.failed), len(p.took))
	assert.LessOrEqual(t, 1000*p.late, len(p.took))
	slices.Sort(p.took)
	return p.took
}

func percentile(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// TestSwapsUnderLoad puts other policies in force, which were checked, twenty a second,
// as a server does that follows its database, while requests are answered. None may
// fail or see parts of two policies, and nothing may be left behind. In a long run there
// are a thousand, and the slowest hundredth of requests may take at most twice as
// long as without.
func TestSwapsUnderLoad(t *testing.T) {
	const every = 50 * time.Millisecond
	defer heap.Headroom(256 << 20)() // as the program has by default
	swaps := 60
	if testenv.Long() {
		swaps = 1000
	}
	w := newWorld(t, testenv.SQLite(t), nil)
	token := w.pat("ann", "probe", "acme:models:*:read").Token
	ledger := manage.PolicyLedger(w.store)
	var all []func()
	for _, revision := range []string{"v1", "v2", "v3", "v4"} {
		record, archive := stamped(t, revision)
		all = append(all, func() {
			require.NoError(t, ledger.Activate(t.Context(), record, archive))
			require.NoError(t, w.policy.Sync(t.Context()))
			require.Equal(t, revision, w.policy.Engine().Current().Revision())
		})
	}
	phase := time.Duration(swaps) * every / 2
	for _, activate := range all { // every cache is warm, everything is there that stays
		activate()
	}
	p := w.probe(token)
	p.answers(t, phase/4)
	p.end(t)
	before := w.inUse()

	p = w.probe(token)
	p.answers(t, phase)
	without := p.end(t)

	p = w.probe(token)
	begin := time.Now()
	ticker := time.NewTicker(every)
	for i := range swaps {
		<-ticker.C
		all[i%len(all)]()
	}
	ticker.Stop()
	rate := float64(swaps) / time.Since(begin).Seconds()
	with := p.end(t)
	assert.Len(t, p.seen, len(all), "every policy has answered: %v", p.seen)

	p = w.probe(token)
	p.answers(t, phase)
	without = append(without, p.end(t)...)
	slices.Sort(without)

	w.http.Client().CloseIdleConnections()
	after := w.inUse()
	assert.LessOrEqual(t, after.heap, before.heap+16<<20)
	assert.LessOrEqual(t, after.goroutines, before.goroutines+2*probers)
	t.Logf("%d swaps, %.1f a second, %d requests during these; p50 %s and p99 %s, without swaps %s and %s; heap %d -> %d KiB, goroutines %d -> %d",
		swaps, rate, len(with), percentile(with, 0.5), percentile(with, 0.99), percentile(without, 0.5), percentile(without, 0.99),
		before.heap>>10, after.heap>>10, before.goroutines, after.goroutines)
	if testenv.Long() {
		assert.Greater(t, rate, 19.0)
		assert.LessOrEqual(t, percentile(with, 0.99), 2*percentile(without, 0.99))
	}
}

// inUse returns the memory that this process uses.
type inUse struct {
	heap       int64 // bytes
	goroutines int
}

// inUse looks when garbage is collected. The world's log, which grows with each request,
// does not count.
func (w *world) inUse() inUse {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what finalizers kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return inUse{heap: int64(m.HeapAlloc) - w.logs.size(), goroutines: runtime.NumGoroutine()}
}
