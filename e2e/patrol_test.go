package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server"
	"patrol/server/authz"
	"patrol/server/extauthz"
	"patrol/server/forwardauth"
	"patrol/server/gateway"
	"patrol/server/manage"
)

func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], bundles.Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	sandbox.Replace(testenv.Program())
	testenv.Main(m)
}

// patience bounds the time of anything that is not itself under test.
const patience = 30 * time.Second

// patrol is the whole server on a database, with people and tokens, put together
// as cmd/patrol does, save that the facts can be held up.
type patrol struct {
	store    *store.Store
	policy   *engine.Engine
	facts    *facts
	log      *logBuffer
	keys     models.Keyring
	users    map[string]string // id by name
	tokens   map[string]string // text by name
	tokenIDs map[string]string

	http    string                         // address of the HTTP surface
	grpc    string                         // address of the gRPC service
	forward map[forwardauth.Dialect]string // address for proxies by dialect
	extauth *extauthz.Server
}

// facts is the store with a gate before every fact.
type facts struct {
	*store.Store
	gate atomic.Pointer[func(context.Context) error]
}

func (f *facts) pass(ctx context.Context) error {
	if gate := f.gate.Load(); gate != nil {
		return (*gate)(ctx)
	}
	return nil
}

func (f *facts) hold(gate func(context.Context) error) { f.gate.Store(&gate) }
func (f *facts) free()                                 { f.gate.Store(nil) }

func (f *facts) PAT(ctx context.Context, id string) (*models.PAT, error) {
	if err := f.pass(ctx); err != nil {
		return nil, err
	}
	return f.Store.PAT(ctx, id)
}

func (f *facts) User(ctx context.Context, id string) (*models.User, error) {
	if err := f.pass(ctx); err != nil {
		return nil, err
	}
	return f.Store.User(ctx, id)
}

func (f *facts) Domain(ctx context.Context, id string) (*models.Domain, error) {
	if err := f.pass(ctx); err != nil {
		return nil, err
	}
	return f.Store.Domain(ctx, id)
}

func (f *facts) Membership(ctx context.Context, user, domain string) (*models.Membership, error) {
	if err := f.pass(ctx); err != nil {
		return nil, err
	}
	return f.Store.Membership(ctx, user, domain)
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// options change how a patrol is put together.
type options struct {
	uncached    bool // every fact is read for every decision
	kinds       models.DomainKinds
	policy      string // a folder; "" is the default
	recorder    authz.Recorder
	extauthz    func(*extauthz.Config)
	forwardauth func(*forwardauth.Config)
}

// openWorld opens a database with people and tokens in it. Nothing serves it.
func openWorld(t *testing.T, database string) *patrol {
	t.Helper()
	ctx := context.Background()
	p := &patrol{log: &logBuffer{}, users: map[string]string{}, tokens: map[string]string{}, tokenIDs: map[string]string{}, forward: map[forwardauth.Dialect]string{}}
	logger := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	p.store, err = store.Open(ctx, store.Config{URL: database, Limits: models.DefaultLimits(), Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.store.Close()) })
	_, _, err = p.store.Migrate(ctx)
	require.NoError(t, err)
	p.keys, err = models.NewKeyring(models.Key{ID: "e2e", Secret: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	p.populate(t)
	return p
}

func openPatrol(t *testing.T, database, upstream string, o options) *patrol {
	t.Helper()
	ctx := context.Background()
	p := openWorld(t, database)
	logger := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))

	source, err := bundles.NewSource(bundles.Options{Source: o.policy, Interval: time.Hour})
	require.NoError(t, err)
	var gate *bundles.Gate
	if o.policy != "" {
		gate, err = bundles.NewGate(bundles.GateConfig{MinCoverage: -1, TestTimeout: time.Minute, Limits: sandbox.Limits{Memory: 1 << 30, CPU: time.Minute, Wall: 5 * time.Minute}})
		require.NoError(t, err)
	}
	delivery, err := bundles.Begin(ctx, bundles.Config{Source: source, Gate: gate, Ledger: manage.PolicyLedger(p.store), StartTimeout: 10 * patience, Logger: logger})
	require.NoError(t, err)
	p.policy = delivery.Engine()
	p.facts = &facts{Store: p.store}
	a, err := authz.New(authz.Config{Keys: p.keys, Policy: p.policy, Facts: p.facts, Feed: p.store, Journal: p.store, Logger: logger, Kinds: o.kinds, Recorder: o.recorder})
	require.NoError(t, err)
	p.store.OnChange(a.Apply)

	running, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	t.Cleanup(func() { stop(); tasks.Wait() })
	if !o.uncached {
		tasks.Go(func() { _ = a.Run(running) }) // it returns nil
		require.Eventually(t, func() bool { return a.Ready() == nil }, patience, time.Millisecond)
	}

	cfg := gateway.DefaultConfig()
	cfg.Upstreams = map[string]gateway.Upstream{gateway.AnyDomain: {URL: upstream}}
	proxy, err := gateway.New(cfg, a, logger)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	serverConfig := server.DefaultConfig()
	serverConfig.DataDir = t.TempDir()
	s, err := server.New(serverConfig, server.Deps{Store: p.store, Authz: a, Engine: p.policy, Policy: delivery, Keys: p.keys, Gateway: proxy, Logger: logger})
	require.NoError(t, err)
	p.http = serve(t, s.Handler())
	for _, dialect := range forwardauth.Dialects() {
		// All proxies of a test share one address, and each has a listener.
		c := forwardauth.DefaultConfig()
		c.Peers = map[forwardauth.Dialect][]string{dialect: {"127.0.0.0/8"}}
		c.Timeout = time.Second // of a machine that runs everything at once
		if o.forwardauth != nil {
			o.forwardauth(&c)
		}
		h, err := forwardauth.New(c, forwardauth.Deps{Authz: a, Logger: logger})
		require.NoError(t, err)
		p.forward[dialect] = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if id := r.Header.Get("X-Request-Id"); id != "" { // as the server around it does
				w.Header().Set("X-Request-Id", id)
			}
			h.ServeHTTP(w, r)
		}))
	}

	c := extauthz.DefaultConfig()
	c.Listen, c.Timeout = "127.0.0.1:0", time.Second
	if o.extauthz != nil {
		o.extauthz(&c)
	}
	p.extauth, err = extauthz.New(c, extauthz.Deps{Authz: a, Logger: logger})
	require.NoError(t, err)
	require.NoError(t, p.extauth.Listen(running))
	p.grpc = p.extauth.Addr()
	tasks.Go(func() { _ = p.extauth.Serve(running) })
	return p
}

// serve serves h on a port of its own until the test ends.
func serve(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// people are the users with their role in acme; "" is no member.
var people = []struct {
	name, role      string
	admin, disabled bool
}{
	{name: "root", admin: true},
	{name: "member", role: "member"},
	{name: "viewer", role: "viewer"},
	{name: "stranger"},
	{name: "gone", role: "member", disabled: true},
}

// tokens are the tokens that cases name, each with its owner and scopes.
var tokens = []struct {
	name, owner string
	scopes      []string
	dead        bool
}{
	{name: "reader", owner: "member", scopes: []string{"acme:models:*:read"}},
	{name: "llama3 reader", owner: "member", scopes: []string{"acme:models:llama3:read"}},
	{name: "user", owner: "member", scopes: []string{"acme:models:*:execute"}},
	{name: "llama3 user", owner: "member", scopes: []string{"acme:models:llama3:execute"}},
	{name: "everything", owner: "member", scopes: []string{"*:models:*:read", "*:models:*:execute", "*:models:*:write"}},
	{name: "files", owner: "member", scopes: []string{"acme:datasets:*:read"}},
	{name: "viewer", owner: "viewer", scopes: []string{"*:models:*:read", "*:models:*:execute"}},
	{name: "stranger", owner: "stranger", scopes: []string{"acme:models:*:read"}},
	{name: "gone", owner: "gone", scopes: []string{"acme:models:*:read"}},
	{name: "admin", owner: "root", scopes: []string{"*:models:*:read", "*:models:*:execute", "*:models:*:write"}},
	{name: "admin reader", owner: "root", scopes: []string{"acme:models:*:read"}},
	{name: "revoked", owner: "member", scopes: []string{"acme:models:*:read"}, dead: true},
}

func (p *patrol) populate(t *testing.T) {
	t.Helper()
	ctx, by := context.Background(), models.Actor{Kind: models.ActorSystem}
	for _, d := range []models.Domain{
		{ID: "acme", Name: "Acme", Status: models.DomainEnabled},
		{ID: "beta", Name: "Beta", Status: models.DomainEnabled},
		{ID: "closed", Name: "Closed", Status: models.DomainIsDisabled},
		{ID: "ice", Name: "Ice", Status: models.DomainIsFrozen},
	} {
		_, err := p.store.CreateDomain(ctx, by, d)
		require.NoError(t, err)
	}
	for _, person := range people {
		u, err := p.store.CreateUser(ctx, by, models.User{Email: person.name + "@example.com", Name: person.name, Admin: person.admin, Disabled: person.disabled})
		require.NoError(t, err)
		p.users[person.name] = u.ID
		for _, domain := range []string{"acme", "closed", "ice"} {
			if person.role != "" {
				_, err = p.store.SetMember(ctx, by, models.Membership{UserID: u.ID, Domain: domain, Role: person.role})
				require.NoError(t, err)
			}
		}
	}
	for _, token := range tokens {
		text, pat := p.mint(t, token.owner, token.name, token.scopes...)
		p.tokens[token.name], p.tokenIDs[token.name] = text, pat.ID
		if token.dead {
			_, err := p.store.RevokePAT(ctx, by, pat.UserID, pat.ID)
			require.NoError(t, err)
		}
	}
}

func (p *patrol) mint(t *testing.T, owner, name string, scopes ...string) (text string, pat models.PAT) {
	t.Helper()
	token, err := models.Mint(rand.Reader)
	require.NoError(t, err)
	mac, keyID := p.keys.Sum(token)
	now := time.Now().UTC()
	pat = models.PAT{ID: token.ID, UserID: p.users[owner], Name: name, KeyID: keyID, MAC: mac, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	for _, scope := range scopes {
		s, err := models.ParseScope(scope)
		require.NoError(t, err)
		pat.Scopes = append(pat.Scopes, s)
	}
	pat, err = p.store.CreatePAT(context.Background(), models.Actor{Kind: models.ActorSystem}, pat)
	require.NoError(t, err)
	return token.Reveal(), pat
}

var errDown = errors.New("the database is down")

// freePort returns a port on which nothing listens now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
