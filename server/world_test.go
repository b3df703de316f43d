package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server"
	"patrol/server/authz"
	"patrol/server/decisionlog"
	"patrol/server/manage"
	"patrol/server/request"
)

// password is everybody's; hashing it takes a while and is done once.
const password = "correct horse battery staple"

var passwordHash = sync.OnceValues(func() (string, error) { return server.CheapHash(password) })

// world is a whole server on a real database with the default policy, and these
// people: root, a platform admin; ann, a member of acme; dom, admin of acme; eve,
// who is in no domain. Two domains: acme and beta.
type world struct {
	t       *testing.T
	clock   *server.Clock
	store   *store.Store
	authz   *authz.Authorizer
	server  *server.Server
	policy  *bundles.Delivery
	decided *store.Decisions
	http    *httptest.Server
	logs    *lockedBuffer
	keys    models.Keyring
	dbURL   string
	dir     string
	users   map[string]models.User

	gate     *bundles.Gate // nil: none
	listener net.Listener  // where to serve; nil: anywhere

	meanwhile atomic.Pointer[meanwhile]

	mu       sync.Mutex
	sessions map[string]string // by name, for as long as they last
}

var by = models.Actor{Kind: models.ActorOperator}

// newWorld starts a server. change, if not nil, has the last word on its
// configuration.
func newWorld(t *testing.T, dbURL string, change func(*server.Config, *server.Deps)) *world {
	t.Helper()
	w := newEmptyWorld(t, dbURL, change)
	w.populate()
	return w
}

// populate makes the people and the domains.
func (w *world) populate() {
	t := w.t
	t.Helper()
	hash, err := passwordHash()
	require.NoError(t, err)
	for _, u := range []models.User{
		{Name: "root", Admin: true}, {Name: "ann"}, {Name: "dom"}, {Name: "eve"}, {Name: "pol", Policy: true},
	} {
		u.Email, u.PasswordHash = u.Name+"@example.com", hash
		w.users[u.Name], err = w.store.CreateUser(t.Context(), by, u)
		require.NoError(t, err)
	}
	for _, id := range []string{"acme", "beta"} {
		_, err := w.store.CreateDomain(t.Context(), by, models.Domain{ID: id, Name: strings.ToUpper(id), Status: models.DomainEnabled})
		require.NoError(t, err)
	}
	w.member("ann", "acme", "member")
	w.member("dom", "acme", "admin")
}

// newEmptyWorld starts a server on an empty database.
func newEmptyWorld(t *testing.T, dbURL string, change func(*server.Config, *server.Deps)) *world {
	t.Helper()
	w := &world{t: t}
	w.start(t, dbURL, change)
	return w
}

// start makes the server of a world, for a test or a benchmark.
func (w *world) start(t testing.TB, dbURL string, change func(*server.Config, *server.Deps)) {
	t.Helper()
	w.clock, w.logs, w.dbURL, w.dir = server.NewClock(), &lockedBuffer{}, dbURL, t.TempDir()
	w.users, w.sessions = map[string]models.User{}, map[string]string{}
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	metrics := server.NewMetrics()
	var err error
	w.store, err = store.Open(t.Context(), store.Config{URL: dbURL, Clock: w.clock.Now, Logger: log, OnQuery: w.onQuery(metrics.Query)})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.store.Close()) })
	_, _, err = w.store.Migrate(t.Context())
	require.NoError(t, err)

	source, err := bundles.NewSource(bundles.Options{})
	require.NoError(t, err)
	w.policy, err = bundles.Begin(t.Context(), bundles.Config{
		Source: source, Ledger: manage.PolicyLedger(w.store), StartTimeout: time.Minute, Logger: log, Gate: w.gate,
	})
	require.NoError(t, err)
	policy := w.policy.Engine()
	w.keys, err = models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte{7}, 32)})
	require.NoError(t, err)
	decisions := w.startDecisionLog(t, policy, log)
	w.authz, err = authz.New(authz.Config{
		Keys: w.keys, Policy: policy, Facts: w.store, Feed: w.store, Journal: w.store, Recorder: decisions,
		Metrics: metrics, Logger: log, Clock: w.clock.Now, MaxLifetime: models.DefaultLimits().MaxLifetime,
	})
	require.NoError(t, err)
	w.store.OnChange(w.authz.Apply)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- w.authz.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ran)
	})

	cfg := server.DefaultConfig()
	cfg.HTTP.DrainDelay = 0 // nobody here looks at /readyz before the end
	cfg.DataDir = filepath.Join(w.dir, "data")
	deps := server.Deps{
		Store: w.store, Decisions: w.decided, Authz: w.authz, Engine: policy, Policy: w.policy, Keys: w.keys, Metrics: metrics, Logger: log, Clock: w.clock.Now,
		Gateway: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client := request.Client{Target: r.RequestURI, Header: r.Header, RequestID: w.Header().Get("X-Request-Id")}
			request.Refusals{}.Denied(client, request.Refusal{Decision: models.Deny(models.TokenMissing)}).WriteTo(w)
		}),
	}
	deps.Playground, err = bundles.NewPlayground(bundles.PlaygroundConfig{
		Limits: sandbox.Limits{Memory: 512 << 20, CPU: 30 * time.Second, Wall: 2 * time.Minute}, Running: 2, Patience: time.Minute,
	})
	require.NoError(t, err)
	if change != nil {
		change(&cfg, &deps)
	}
	w.server, err = server.New(cfg, deps)
	require.NoError(t, err)
	require.NoError(t, w.server.HashCheaply())
	w.http = httptest.NewUnstartedServer(w.server.Handler())
	if w.listener != nil {
		require.NoError(t, w.http.Listener.Close())
		w.http.Listener = w.listener
	}
	w.http.Start()
	t.Cleanup(w.http.Close)
}

// meanwhile is something that happens once, right after a query of the store.
type meanwhile struct {
	query   string
	happens func()
}

// onQuery has what happens meanwhile happen before the query's caller goes on.
func (w *world) onQuery(then func(string, time.Duration, error)) func(string, time.Duration, error) {
	return func(query string, took time.Duration, err error) {
		then(query, took, err)
		if m := w.meanwhile.Load(); m != nil && m.query == query && w.meanwhile.CompareAndSwap(m, nil) {
			m.happens()
		}
	}
}

// startDecisionLog opens a decision log, which runs until the test ends.
func (w *world) startDecisionLog(t testing.TB, policy *engine.Engine, log *slog.Logger) *decisionlog.Log {
	t.Helper()
	var err error
	w.decided, err = store.OpenDecisions(t.Context(), store.Config{URL: store.DecisionsURL(w.dbURL), Clock: w.clock.Now}, false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.decided.Close()) })
	_, _, err = w.decided.Migrate(t.Context())
	require.NoError(t, err)
	cfg := decisionlog.DefaultConfig()
	cfg.FlushInterval = 5 * time.Millisecond
	decisions, err := decisionlog.New(t.Context(), cfg, decisionlog.Deps{Policy: policy, Database: w.decided, Logger: log, Clock: w.clock.Now})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- decisions.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ran)
	})
	return decisions
}

func (w *world) member(name, domain, role string) {
	w.t.Helper()
	_, err := w.store.SetMember(w.t.Context(), by, models.Membership{UserID: w.users[name].ID, Domain: domain, Role: role})
	require.NoError(w.t, err)
}

// lockedBuffer is a bytes.Buffer for many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// size returns the memory that it takes, in bytes.
func (b *lockedBuffer) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.buf.Cap())
}

// answer is the answer of the server.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// call is one request in the making.
type call struct {
	w      *world
	body   io.Reader
	header http.Header
}

// as begins a call: with name's session, which is signed in if need be, or
// nobody's if name is "".
func (w *world) as(name string) *call {
	c := &call{w: w, header: http.Header{}}
	if name != "" {
		c.header.Set("Authorization", "Bearer "+w.session(name))
	}
	return c
}

// with begins a call with a token.
func (w *world) with(token string) *call {
	return (&call{w: w, header: http.Header{}}).set("Authorization", "Bearer "+token)
}

func (c *call) set(name, value string) *call {
	c.header.Set(name, value)
	return c
}

func (c *call) get(target string) *answer          { return c.send("GET", target, nil) }
func (c *call) delete(target string) *answer       { return c.send("DELETE", target, nil) }
func (c *call) post(target string, in any) *answer { return c.send("POST", target, in) }

// send sends the request and holds the answer against the OpenAPI document. in is
// a string, sent as it is, or marshalled.
func (c *call) send(method, target string, in any) *answer {
	c.w.t.Helper()
	switch in := in.(type) {
	case nil:
	case string:
		c.body = strings.NewReader(in)
	default:
		encoded, err := json.Marshal(in)
		require.NoError(c.w.t, err)
		c.body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(c.w.t.Context(), method, c.w.http.URL+target, c.body)
	require.NoError(c.w.t, err)
	req.Header = c.header
	resp, err := c.w.http.Client().Transport.RoundTrip(req)
	require.NoError(c.w.t, err)
	defer func() { _ = resp.Body.Close() }()
	a := &answer{t: c.w.t, status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	require.NoError(c.w.t, err)
	conforms(c.w.t, method, req.URL.Path, a)
	return a
}

// is requires a status and returns the answer.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s", a.body)
	return a
}

// problem requires a problem document with a status and code.
func (a *answer) problem(status int, code models.Code) api.Problem {
	a.t.Helper()
	a.is(status)
	var p api.Problem
	a.into(&p)
	require.Equal(a.t, string(code), p.Code, "%s", a.body)
	return p
}

// into reads the body.
func (a *answer) into(out any) *answer {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.body, out), "%s", a.body)
	return a
}

// session returns a session token of name.
func (w *world) session(name string) string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[name] == "" {
		w.sessions[name] = w.signIn(name)
	}
	return w.sessions[name]
}

// signIn signs name in as a program.
func (w *world) signIn(name string) string {
	w.t.Helper()
	var out api.Session
	w.as("").post("/api/v1/session", api.SignIn{Email: name + "@example.com", Password: password, Transport: "bearer"}).is(201).into(&out)
	return out.SessionToken
}

// pat creates a token of name that may do what scopes say, domain:type:entity:operation.
func (w *world) pat(name, title string, scopes ...string) api.PAT {
	w.t.Helper()
	in := api.NewPAT{Name: title, ExpiresIn: "30d"}
	for _, text := range scopes {
		sc, err := models.ParseScope(text)
		require.NoError(w.t, err)
		in.Scopes = append(in.Scopes, api.NewScope{Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation})
	}
	var out api.PAT
	w.as(name).post("/api/v1/pats", in).is(201).into(&out)
	return out
}

// ask puts one request to /authorize.
func (w *world) ask(token, scope string) api.Decision {
	w.t.Helper()
	sc, err := models.ParseScope(scope)
	require.NoError(w.t, err)
	var d api.Decision
	w.with(token).post("/authorize", api.AuthorizeRequest{
		Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation,
	}).is(200).into(&d)
	return d
}

// reauthenticate makes the sign-in of name fresh again.
func (w *world) freshen(name string) {
	w.t.Helper()
	w.as(name).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(200)
}

// soon is the time for which tests wait for background work.
const soon = 10 * time.Second

// cookieName is the name of a cookie of the world's installation, over plain HTTP.
func (w *world) cookieName(kind string) string {
	w.t.Helper()
	id, err := w.store.Installation(w.t.Context())
	require.NoError(w.t, err)
	sum := sha256.Sum256([]byte("cookies of " + id))
	return "patrol_" + kind + "_" + hex.EncodeToString(sum[:4])
}
