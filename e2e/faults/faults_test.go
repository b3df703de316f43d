package faults_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

const (
	// patience bounds every wait on a machine that runs everything at once.
	patience = time.Minute
	// staleness is the servers' maximum staleness, the bound of every cached answer.
	staleness = 2 * time.Second
	password  = "correct horse battery staple"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// server is a patrol serve that can be ended and started again.
type server struct {
	name     string
	binary   string
	settings []string
	http     *http.Client

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{}
	address string
}

func (s *server) addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// start starts the server and waits until it listens.
func (s *server) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(s.binary, "serve")
	cmd.Env = environment(s.settings)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	listening, ended := make(chan string, 1), make(chan struct{})
	var tail lastLines
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the server ends with the thread that started it
		if err := cmd.Start(); err != nil {
			tail.add(err.Error())
			return
		}
		lines := bufio.NewScanner(log)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			tail.add(lines.Text())
			var entry struct{ Msg, HTTP string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" && entry.HTTP != "" {
				listening <- entry.HTTP
			}
		}
		_ = cmd.Wait() // its end is what matters
	}()
	select {
	case address := <-listening:
		s.mu.Lock()
		s.cmd, s.ended, s.address = cmd, ended, address
		s.mu.Unlock()
	case <-ended:
		t.Fatalf("%s ended at once:\n%s", s.name, tail.String())
	case <-time.After(patience): // it ends with the test's process
		t.Fatalf("%s does not start:\n%s", s.name, tail.String())
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cmd.Process.Signal(sig) // it may have ended
}

// end ends the server by a signal and waits for it.
func (s *server) end(sig syscall.Signal) {
	s.signal(sig)
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	<-ended
}

// lastLines keeps the end of a log.
type lastLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *lastLines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	l.lines = l.lines[max(0, len(l.lines)-20):]
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// fleet is some servers on one database, and the owners that use them.
type fleet struct {
	t        *testing.T
	binary   string
	database string // as the commands of operators reach it
	servers  []*server
	owners   []*owner
	admin    string   // the session of a platform admin
	keys     []string // for tokens, the current one first
	turn     int

	mu      sync.Mutex
	reports map[string]int // what should not have been answered
}

// settings of the servers that are not the defaults, and why.
func settings(database, dir string) []string {
	return []string{
		"PATROL_LISTEN=127.0.0.1:0", "PATROL_GRPC_LISTEN=", "PATROL_DATA_DIR=" + dir, "PATROL_DATABASE_URL=" + database,
		"PATROL_TOKEN_KEYS=" + key("faults"),
		"PATROL_DECISIONS_MAX_STALENESS=" + staleness.String(),
		"PATROL_TOKENS_MAX_LIVE=100000", "PATROL_SESSIONS_FRESH_SIGN_IN=12h", "PATROL_SESSIONS_FRESH_ADMIN=12h", // one sign-in for all of it
		"PATROL_DECISIONS_FAILURES_PER_MINUTE=1000000", // refusals are part of it
		"PATROL_HTTP_DRAIN_DELAY=0s", "PATROL_DECISION_LOG_DATABASE=false",
	}
}

// environment returns that of the test, with these settings in place of its own.
func environment(settings []string) []string {
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATROL_") })
	return append(own, settings...)
}

// key returns a key for tokens.
func key(id string) string {
	sum := sha256.Sum256([]byte(id))
	return id + ":" + base64.StdEncoding.EncodeToString(sum[:])
}

// newFleet makes owners and starts one server for each database URL.
func newFleet(t *testing.T, operator string, urls ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, binary: program(t), database: operator, keys: []string{key("faults")}, reports: map[string]int{}}
	f.command("user", "create", "admin@example.com", "--admin", "--password-stdin")
	for i := range 3 {
		o := &owner{fleet: f, domain: fmt.Sprint("domain-", i), email: fmt.Sprintf("owner-%d@example.com", i)}
		f.command("user", "create", o.email, "--password-stdin")
		f.command("domain", "create", o.domain)
		f.command("member", "set", o.domain, o.email, "member")
		f.owners = append(f.owners, o)
	}
	for i, url := range urls {
		s := &server{
			name: fmt.Sprint("server ", i), binary: f.binary, settings: settings(url, t.TempDir()),
			http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
		}
		s.start(t)
		t.Cleanup(func() { s.signal(syscall.SIGCONT); s.end(syscall.SIGKILL) })
		f.servers = append(f.servers, s)
	}
	f.admin, _ = f.signIn("admin@example.com")
	for _, o := range f.owners {
		o.session, o.id = f.signIn(o.email)
	}
	return f
}

func (f *fleet) command(args ...string) {
	f.t.Helper()
	cmd := exec.Command(f.binary, args...)
	cmd.Env = environment(settings(f.database, f.t.TempDir()))
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.CombinedOutput()
	require.NoError(f.t, err, "%v: %s", args, out)
}

func (f *fleet) signIn(email string) (session, id string) {
	f.t.Helper()
	var begun struct {
		SessionToken string `json:"session_token"`
		User         struct{ ID string }
	}
	require.Eventually(f.t, func() bool {
		return f.any().call(f.t.Context(), "POST", "/api/v1/session", "", map[string]string{"email": email, "password": password, "transport": "bearer"}, &begun)/100 == 2
	}, patience, pace)
	return begun.SessionToken, begun.User.ID
}

// any returns the servers in turn.
func (f *fleet) any() *server {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
	return f.servers[f.turn%len(f.servers)]
}

// report notes an answer that no fault explains.
func (f *fleet) report(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports[fmt.Sprintf(format, args...)]++
}

// hold returns once each owner had so many answers and acknowledgements more.
func (f *fleet) hold(reads, writes int64) {
	f.t.Helper()
	for _, o := range f.owners {
		o.reads.Store(0)
		o.wrote.Store(0)
	}
	if !assert.Eventually(f.t, func() bool {
		for _, o := range f.owners {
			if o.reads.Load() < reads || o.wrote.Load() < writes {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond, "answers come again") {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.t.Fatalf("refused: %v", f.reports)
	}
}

// answers returns once every server answers, and how long that took.
func (f *fleet) answers() time.Duration {
	f.t.Helper()
	begin := time.Now()
	for _, s := range f.servers {
		var said map[string]any
		require.Eventually(f.t, func() bool {
			return s.call(f.t.Context(), "GET", "/readyz", "", nil, &said) == http.StatusOK
		}, patience, 5*time.Millisecond, "%s is ready again; it says %v", s.name, &said)
	}
	return time.Since(begin)
}

// fault breaks something and mends it.
type fault struct {
	name string
	do   func(t *testing.T, f *fleet)
}

// all runs each fault as often as is asked for.
func (f *fleet) all(t *testing.T, faults []fault) {
	t.Helper()
	for range rounds(t) {
		for _, what := range faults {
			t.Run(what.name, func(t *testing.T) {
				f.t = t
				f.round(t, what)
			})
		}
	}
}

// round runs one fault under load, and checks what everybody was told.
func (f *fleet) round(t *testing.T, what fault) {
	t.Helper()
	for _, o := range f.owners {
		o.history = &history{begin: time.Now(), bound: staleness}
		o.mu.Lock()
		o.secrets = nil
		o.mu.Unlock()
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, o := range f.owners {
		o.work(ctx, &running)
	}
	f.hold(8, 4)
	what.do(t, f)
	mended := f.answers()
	f.hold(8, 4)
	stop()
	running.Wait()
	operations, refused, unanswered := 0, 0, 0
	for _, o := range f.owners {
		o.settle(t)
		o.history.check(t, what.name)
		operations, refused, unanswered = operations+len(o.history.operations), refused+o.history.unavailable, unanswered+o.history.unanswered
	}
	t.Logf("%s: %d calls explained, %d refused to answer, %d writes without an answer, all servers ready after %s",
		what.name, operations, refused, unanswered, mended.Round(time.Millisecond))
	for report, n := range f.reports {
		assert.Fail(t, "an answer that no fault explains", "%s (%d times)", report, n)
	}
	clear(f.reports)
}

// rounds returns the number of times that each fault happens.
func rounds(t *testing.T) int {
	t.Helper()
	n := 1
	if testenv.Long() {
		n = 30 // more than 500 faults in all
	}
	if text := os.Getenv("PATROL_FAULTS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err, "PATROL_FAULTS is a number of rounds")
	}
	return n
}

// program returns a patrol to run.
func program(t *testing.T) string {
	t.Helper()
	if p := testenv.Program(); p != "" {
		return p
	}
	binary := filepath.Join(t.TempDir(), "patrol")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "patrol/cmd/patrol")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

// elapse waits for a fault to last. What is waited for is time itself: nothing tells when a
// server that hears nothing has stopped to trust what it knows.
func elapse(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// The servers themselves: what happens to them is the same on each database.
var serverFaults = []fault{
	{"a server is killed", func(t *testing.T, f *fleet) {
		f.servers[0].end(syscall.SIGKILL)
		f.servers[0].start(t)
	}},
	{"a server is asked to end, and starts again", func(t *testing.T, f *fleet) {
		f.servers[1].end(syscall.SIGTERM)
		f.servers[1].start(t)
	}},
	{"a server stands still for longer than the maximum staleness", func(_ *testing.T, f *fleet) {
		f.servers[0].signal(syscall.SIGSTOP)
		elapse(staleness + time.Second)
		f.servers[0].signal(syscall.SIGCONT)
	}},
	{"a server stands still for a moment", func(_ *testing.T, f *fleet) {
		f.servers[1].signal(syscall.SIGSTOP)
		elapse(staleness / 4)
		f.servers[1].signal(syscall.SIGCONT)
	}},
	{"the servers get another key for tokens, one after the other", func(t *testing.T, f *fleet) {
		fresh := key(fmt.Sprint("key-", len(f.keys)))
		for _, keys := range []string{strings.Join(append(slices.Clone(f.keys), fresh), ","), strings.Join(append([]string{fresh}, f.keys...), ",")} {
			for _, s := range f.servers { // first all know it, then it is the one for new tokens
				s.end(syscall.SIGTERM)
				s.settings = append(s.settings, "PATROL_TOKEN_KEYS="+keys)
				s.start(t)
			}
		}
		f.keys = append([]string{fresh}, f.keys...)
	}},
	{"all servers are killed", func(t *testing.T, f *fleet) {
		for _, s := range f.servers {
			s.end(syscall.SIGKILL)
		}
		for _, s := range f.servers {
			s.start(t)
		}
	}},
}

func TestFaultsSQLite(t *testing.T) {
	database := testenv.SQLite(t)
	f := newFleet(t, database, database, database)
	f.all(t, serverFaults)
}

func TestFaultsPostgres(t *testing.T) {
	primary := testenv.NewCluster(t)
	ways := []*testenv.Proxy{testenv.NewProxy(t, primary.Addr()), testenv.NewProxy(t, primary.Addr())}
	f := newFleet(t, primary.URL(), primary.URLAt(ways[0].Addr()), primary.URLAt(ways[1].Addr()))
	faults := append([]fault{
		{"the database is killed", func(*testing.T, *fleet) {
			primary.Kill()
			primary.Start()
		}},
		{"all connections break", func(*testing.T, *fleet) {
			for _, w := range ways {
				w.Cut()
			}
		}},
		{"a server is cut off from the database for longer than the maximum staleness", func(*testing.T, *fleet) {
			ways[0].Freeze()
			elapse(staleness + time.Second)
			ways[0].Thaw()
		}},
		{"all servers are cut off from the database", func(*testing.T, *fleet) {
			for _, w := range ways {
				w.Freeze()
			}
			elapse(staleness + time.Second)
			for _, w := range ways {
				w.Thaw()
			}
		}},
		{"the way to the database is slow", func(_ *testing.T, f *fleet) {
			ways[1].Delay(100 * time.Millisecond)
			f.hold(20, 4)
			ways[1].Delay(0)
		}},
		{"the standby takes over", func(t *testing.T, _ *fleet) {
			primary = failOver(t, primary, ways, false)
		}},
		{"the standby takes over while the old primary goes on", func(t *testing.T, _ *fleet) {
			primary = failOver(t, primary, ways, true)
		}},
	}, serverFaults...)
	f.all(t, faults)
}

// failOver has a standby, which no commit is acknowledged without, take the place of the primary.
func failOver(t *testing.T, primary *testenv.Cluster, ways []*testenv.Proxy, goesOn bool) *testenv.Cluster {
	t.Helper()
	standby := primary.Standby()
	synchronous := func(names string) {
		primary.Query("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
		primary.Query("SELECT CAST(pg_reload_conf() AS text)")
	}
	synchronous("*")
	require.Eventually(t, func() bool {
		return primary.Query("SELECT CAST(count(*) AS text) FROM pg_stat_replication WHERE sync_state = 'sync'")[0] == "1"
	}, patience, 10*time.Millisecond)
	if !goesOn {
		primary.Kill()
	}
	standby.Promote()
	for _, w := range ways {
		w.Lead(standby.Addr())
		w.Cut()
	}
	if goesOn {
		primary.Kill() // only now
	}
	return standby
}
