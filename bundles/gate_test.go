package bundles

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/models"
	"patrol/policies/engine"
)

// TestMain lets the test binary be the process that a policy is checked in.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// memoryLedger is a ledger of one server. It tells what it is told.
type memoryLedger struct {
	mu       sync.Mutex
	state    State
	archives map[string][]byte
	told     chan Record // what was activated or refused
}

func newLedger() *memoryLedger {
	return &memoryLedger{archives: map[string][]byte{}, told: make(chan Record, 100)}
}

func (l *memoryLedger) State(context.Context) (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, nil
}

func (l *memoryLedger) Archive(_ context.Context, digest string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.archives[digest], nil
}

func (l *memoryLedger) Activate(_ context.Context, r Record, archive []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = State{Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source}
	l.archives[r.Digest] = archive
	l.told <- r
	return nil
}

func (l *memoryLedger) Refuse(_ context.Context, r Record) error {
	l.told <- r
	return nil
}

// next waits for what the ledger is told next.
func (l *memoryLedger) next(t testing.TB) Record {
	t.Helper()
	select {
	case r := <-l.told:
		return r
	case <-t.Context().Done():
		require.Fail(t, "nothing became of the candidate")
	case <-time.After(2 * time.Minute):
		require.Fail(t, "nothing became of the candidate in two minutes")
	}
	return Record{}
}

// begin runs a delivery from source, until the test ends.
func begin(t testing.TB, source Source, cfg GateConfig) (*Delivery, *memoryLedger) {
	t.Helper()
	gate, err := NewGate(cfg)
	require.NoError(t, err)
	ledger := newLedger()
	d, err := Begin(t.Context(), Config{
		Source: source, Gate: gate, Ledger: ledger, Sync: time.Hour, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.True(t, ledger.next(t).Result.Passed)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return d, ledger
}

// embeddedFiles are the files of the bundle in the binary, with some replaced; ""
// takes one away.
func embeddedFiles(t testing.TB, replaced map[string]string) map[string][]byte {
	t.Helper()
	b, err := Read(t.Context(), "", nil)
	require.NoError(t, err)
	files := maps.Clone(b.Files)
	for name, content := range replaced {
		files[name] = []byte(content)
	}
	maps.DeleteFunc(files, func(_ string, content []byte) bool { return len(content) == 0 })
	return files
}

func packedFiles(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	content, err := pack(files)
	require.NoError(t, err)
	return content
}

// replace puts a file in the place of another at once, as careful tools do.
func replace(t testing.TB, file string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// allows reports whether the policy in force allows a reader's request and denies it
// when the token is revoked.
func allows(t testing.TB, e *engine.Engine) bool {
	t.Helper()
	now := time.Unix(1790500000, 0)
	facts := func(revoked bool) engine.Facts {
		pat := models.PAT{
			ID: "aaaaaaaaaaaaaaaa", UserID: "u1", CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour),
			Scopes: []models.Scope{{ID: "scope-1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
		}
		if revoked {
			pat.RevokedAt = &now
		}
		return engine.Facts{
			Token: engine.TokenValue(pat), User: engine.UserValue(models.User{ID: "u1"}),
			Domain:     engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}),
			Membership: engine.MembershipValue(models.Membership{UserID: "u1", Domain: "acme", Role: "member"}),
		}
	}
	ask := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	good, err := e.Current().Decide(t.Context(), ask, facts(false), now)
	require.NoError(t, err)
	revoked, err := e.Current().Decide(t.Context(), ask, facts(true), now)
	require.NoError(t, err)
	return good.Allowed && !revoked.Allowed
}

// TestRefusedChangesNothing sends everything through the gate that must not come
// into force, and holds that it is refused where and because it is wrong, while
// the engine goes on with what it had.
func TestRefusedChangesNothing(t *testing.T) {
	own := embeddedFiles(t, nil)
	rego := func(name string) string { return string(own[name]) }
	edited := func(from, to string) map[string]string {
		text := rego("authz/authz.rego")
		require.Contains(t, text, from)
		return map[string]string{"authz/authz.rego": strings.Replace(text, from, to, 1)}
	}
	decision := "\ndecision := {\"allow\": true"
	with := func(body string) map[string]string {
		return map[string]string{"x/x.rego": "package patrol.x\n\n" + body}
	}
	instead := func(files map[string]string) map[string]string {
		all := map[string]string{"authz/authz_test.rego": "", "http/http_test.rego": "", "log/mask_test.rego": ""}
		maps.Copy(all, files)
		return all
	}
	spins := instead(map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if {\n\tcount({x | some i in numbers.range(1, 99999); some j in numbers.range(1, 99999); x := i * j; x < 0}) == 1\n}"})
	grows := instead(map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if count(numbers.range(1, 500000000)) == 1"})
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	zeros := strings.Repeat("\x00", maxFile)

	for name, c := range map[string]struct {
		files   map[string]string // that are other than in the bundle in the binary
		archive []byte            // or the whole
		cfg     GateConfig
		stage   engine.Stage
		code    string
		says    string
	}{
		// What it is packed in.
		"no archive":           {archive: []byte("package patrol"), stage: "read", code: "unreadable", says: "not a gzipped tar archive"},
		"an empty file":        {archive: []byte{}, stage: "read", code: "unreadable", says: "not a gzipped tar archive"},
		"cut short":            {archive: packedFiles(t, own)[:5000], stage: "read", code: "unreadable", says: "unexpected EOF"},
		"a path out of it":     {archive: archive(t, entry{name: "../../etc/x.rego", body: "package patrol.x"}), stage: "read", code: "unreadable", says: "not a plain path inside the bundle"},
		"a link":               {archive: archive(t, entry{name: "x.rego", kind: tar.TypeSymlink, link: "/etc/passwd"}), stage: "read", code: "unreadable", says: "may not contain links"},
		"a bomb of one file":   {archive: archive(t, entry{name: "x.rego", body: zeros + zeros}), stage: "read", code: "unreadable", says: "larger than 8 MiB"},
		"a bomb of many files": {archive: archive(t, entry{name: "1", body: zeros}, entry{name: "2", body: zeros}, entry{name: "3", body: zeros}, entry{name: "4", body: zeros}, entry{name: "5", body: zeros}), stage: "read", code: "unreadable", says: "larger than 32 MiB together"},

		// What it says.
		"no manifest":          {files: map[string]string{".manifest": ""}, stage: "read", code: "unreadable", says: "the bundle has none"},
		"a manifest of no use": {files: map[string]string{".manifest": `{"roots": ["patrol"], "revision": "` + strings.Repeat("x", 201) + `"}`}, stage: "read", code: "unreadable", says: "revision must be at most 200"},
		"a foreign root":       {files: map[string]string{".manifest": `{"roots": ["patrol", "system"]}`}, stage: "read", code: "unreadable", says: "roots must be"},
		"a foreign package":    {files: map[string]string{"x.rego": "package system.log"}, stage: "read", code: "unreadable", says: "outside of patrol"},
		"foreign data":         {files: map[string]string{"system/data.json": "{}"}, stage: "read", code: "unreadable", says: "outside of patrol"},
		"a delta bundle":       {files: map[string]string{"patch.json": `{"data": []}`}, stage: "read", code: "unreadable", says: "not supported"},
		"WebAssembly":          {files: map[string]string{"policy.wasm": "\x00asm"}, stage: "read", code: "unreadable", says: "not supported"},
		"YAML that grows":      {files: map[string]string{"patrol/x/data.yaml": laughs}, stage: "read", code: "unreadable", says: "alias"},
		"JSON without a floor": {files: map[string]string{"patrol/x/data.json": `{"a":` + strings.Repeat("[", 1<<20)}, stage: "read", code: "unreadable", says: "max depth"},
		"Rego without a floor": {files: with("p := " + strings.Repeat("(", 1<<20)), stage: "read", code: "rego_parse_error", says: "max parsing recursion depth"},
		"syntax":               {files: with("p := "), stage: "read", code: "rego_parse_error", says: ""},
		"Rego v0":              {files: with("p { true }"), stage: "read", code: "rego_parse_error", says: "`if` keyword is required"},
		"no roles":             {files: map[string]string{"patrol/roles/data.yaml": "viewer: {models: {fly: true}}"}, stage: "data", code: "data_invalid", says: "fly"},
		"a type error":         {files: with("p if 1 + \"a\" == 2"), stage: "compile", code: "rego_type_error", says: "plus: invalid argument"},
		"recursion":            {files: with("p if q\n\nq if p"), stage: "compile", code: "rego_recursion_error", says: "recursive"},
		"rules in conflict":    {files: with("p := 1\n\np contains 2"), stage: "compile", code: "rego_type_error", says: "conflicting rules data.patrol.x.p found"},
		"an unsafe variable":   {files: with("p := q"), stage: "compile", code: "rego_unsafe_var_error", says: "q is unsafe"},
		"asks the network":     {files: with(`p := http.send({"method": "GET", "url": "http://169.254.169.254"})`), stage: "compile", code: "rego_type_error", says: "undefined function http.send"},
		"asks the environment": {files: with(`p := opa.runtime().env`), stage: "compile", code: "rego_type_error", says: "undefined function opa.runtime"},
		"prints":               {files: with("p if print(input.token)"), stage: "compile", code: "print_call", says: "policies do not print"},
		"its own capabilities": {files: map[string]string{"capabilities.json": `{"builtins": [{"name": "http.send", "decl": {"type": "function"}}]}`}, stage: "compile", code: "rego_compile_error", says: "http.send is not available"},

		// What it decides.
		"no decision":                      {files: edited("\ndecision :=", "\nverdict :="), stage: "entrypoints", code: "entrypoint_invalid", says: "it defines no data.patrol.authz.decision"},
		"allows everything":                {files: edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if true else := {\"allow\": true"), stage: "entrypoints", code: "entrypoint_invalid", says: "allows a request about which nothing is known"},
		"allows on what is undefined":      {files: edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if not input.user else := {\"allow\": true"), stage: "entrypoints", code: "entrypoint_invalid", says: "allows a request about which nothing is known"},
		"decides twice":                    {files: edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if true\n"+decision), stage: "entrypoints", code: "entrypoint_invalid", says: "conflict"},
		"a back door":                      {files: edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if input.user.email == \"eve@example.com\" else := {\"allow\": true"), cfg: GateConfig{MinCoverage: 100}, stage: "coverage", code: "coverage_low", says: "100% are required"},
		"allows what is revoked":           {files: instead(edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if {\n\tinput.user.id\n\tinput.request.domain\n\tinput.token.revoked == true\n} else := {\"allow\": true")), stage: "safety", code: "safety_violated", says: "token_revoked"},
		"allows what is expired, untested": {files: instead(edited(decision, "\ndecision := {\"allow\": true, \"reasons\": []} if {\n\tinput.user.id\n\tinput.request.domain\n\tinput.now == input.token.expires_at\n} else := {\"allow\": true")), stage: "safety", code: "safety_violated", says: "token_expired"},

		// What its tests are worth.
		"no tests":                 {files: instead(nil), stage: "tests", code: "tests_missing", says: "the bundle has no tests"},
		"a failing test":           {files: map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if 1 == 2"}, stage: "tests", code: "test_failed", says: "does not hold: 1 == 2"},
		"tests that assert naught": {files: instead(map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if 1 == 1"}), stage: "tests", code: "tests_vacuous", says: "allows everything"},
		"tests that cover little":  {files: instead(map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if 1 == 1"}), stage: "coverage", code: "coverage_low", says: "80% are required"},
		"a test of another policy": {files: map[string]string{"x_test.rego": "package patrol.authz\n\ntoken_unrevoked if true"}, stage: "tests", code: "test_changes_policy", says: "would be of another policy"},

		// What it takes.
		"takes all the time":   {files: spins, cfg: GateConfig{TestTimeout: time.Minute, Limits: sandbox.Limits{CPU: 3 * time.Second}}, stage: "limits", code: "limit_exceeded", says: "more than 3s of CPU time"},
		"takes all the memory": {files: grows, cfg: GateConfig{TestTimeout: time.Minute, Limits: sandbox.Limits{Memory: 384 << 20}}, stage: "limits", code: "limit_exceeded", says: "more than 384 MiB of memory"},
		"a test without end":   {files: spins, cfg: GateConfig{TestTimeout: time.Second}, stage: "tests", code: "test_error", says: "took longer than 1s"},
	} {
		if c.stage == StageLimits && !sandbox.Enforced {
			continue
		}
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.tar.gz")
			replace(t, file, packedFiles(t, own))
			source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
			require.NoError(t, err)
			d, ledger := begin(t, source, c.cfg)
			before := d.Engine().Current()
			require.True(t, allows(t, d.Engine()))

			if c.archive == nil {
				c.archive = packedFiles(t, embeddedFiles(t, c.files))
			}
			replace(t, file, c.archive)
			r := ledger.next(t)
			assert.False(t, r.Result.Passed)
			assert.Equal(t, ArchiveDigest(c.archive), r.ArchiveDigest)
			assert.Condition(t, func() bool {
				for _, f := range r.Result.Findings {
					if f.Stage == c.stage && (c.code == "" || f.Code == c.code) && strings.Contains(f.Message, c.says) {
						return true
					}
				}
				return false
			}, "no finding is %s %s %q: %v", c.stage, c.code, c.says, r.Result.Findings)

			assert.Same(t, before, d.Engine().Current())
			assert.True(t, allows(t, d.Engine()))
			status := d.Status()
			assert.Equal(t, before.Revision(), status.Active.Revision)
			require.NotNil(t, status.Source.Pending)
			assert.True(t, status.Source.Pending.Refused)
			kept, digest, _ := d.Archive()
			assert.Equal(t, ArchiveDigest(packedFiles(t, own)), digest)
			assert.True(t, bytes.Equal(packedFiles(t, own), kept))
			assert.InDelta(t, 1, testutil.ToFloat64(d.metrics.refused), 0)
			assert.InDelta(t, 1, testutil.ToFloat64(d.metrics.candidates.WithLabelValues(outcomeRefused)), 0)
		})
	}
}
