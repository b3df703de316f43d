package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is the time that the server may take to start, stop or answer.
const patience = time.Minute

// server is the PostgreSQL of this test process.
var server struct {
	once    sync.Once
	url     string // of the maintenance database
	err     error
	missing string // why there is none
	stop    func()
	main    bool // Main was called and will stop it
}

// Main runs a package's tests and ends the process, and the PostgreSQL cluster
// if the tests started one. It is all that a TestMain contains:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
func Main(m *testing.M) {
	server.main = true
	code := m.Run()
	server.once.Do(func() {})
	if server.stop != nil {
		server.stop()
	}
	os.Exit(code)
}

// Postgres returns the URL of an empty database that is dropped when the test
// ends. Without a PostgreSQL server it calls [Missing].
func Postgres(t testing.TB) string {
	t.Helper()
	if os.Getenv("PATROL_TEST_POSTGRES") == "" && !server.main {
		t.Fatal("the package's TestMain must call testenv.Main, which stops the PostgreSQL cluster")
	}
	server.once.Do(func() { server.url, server.missing, server.stop, server.err = findServer() })
	if server.err != nil {
		t.Fatalf("start PostgreSQL: %v", server.err)
	}
	if server.missing != "" {
		Missing(t, "postgres", server.missing)
	}

	name := "patrol_test_" + strings.ToLower(rand.Text())
	if err := onServer("CREATE DATABASE " + name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := onServer("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	u, err := url.Parse(server.url)
	if err != nil {
		t.Fatal("PATROL_TEST_POSTGRES is not a URL") // the cause would show its password
	}
	u.Path = "/" + name
	return u.String()
}

func onServer(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// queryAt runs a statement and returns the first column of its rows.
func queryAt(url, statement string) (out []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		value := row.RawValues()[0]
		return string(value), nil
	})
}

func findServer() (maintenance, missing string, stop func(), err error) {
	if given := os.Getenv("PATROL_TEST_POSTGRES"); given != "" {
		return given, "", nil, nil
	}
	initdb, postgres := program("initdb"), program("postgres")
	if initdb == "" || postgres == "" {
		return "", "no PATROL_TEST_POSTGRES, and no initdb and postgres in PATH or /usr/lib/postgresql", nil, nil
	}
	maintenance, stop, err = startCluster(initdb, postgres)
	return maintenance, "", stop, err
}

// program finds a PostgreSQL program, the newest version if there are several.
// Debian keeps them out of PATH.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob(filepath.Join("/usr/lib/postgresql/*/bin", name))
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

func startCluster(initdb, postgres string) (maintenance string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "patrol-pg-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	data, password, passwordFile := filepath.Join(dir, "data"), rand.Text(), filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return "", nil, err
	}
	attr, err := unprivileged(dir, passwordFile)
	if err != nil {
		return "", nil, err
	}
	init := exec.Command(initdb, "-D", data, "-U", "patrol", "-E", "UTF8", "--locale=C", "--no-sync",
		"--auth=scram-sha-256", "--pwfile="+passwordFile)
	init.Dir, init.SysProcAttr = dir, attr
	if out, err := init.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}

	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }() // the child has its own handle
	run := exec.Command(postgres, "-D", data, "-h", "127.0.0.1", "-p", port, "-k", dir,
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "log_min_messages=fatal")
	run.Dir, run.SysProcAttr, run.Stdout, run.Stderr = dir, attr, logFile, logFile
	exited, err := startTied(run)
	if err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = run.Process.Signal(os.Interrupt) // "fast" shutdown: clients are cut
		select {
		case <-exited:
		case <-time.After(patience):
			_ = run.Process.Kill()
			<-exited
		}
		_ = os.RemoveAll(dir)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("patrol", password), Host: net.JoinHostPort("127.0.0.1", port), Path: "/postgres", RawQuery: "sslmode=disable"}
	if err := awaitServer(u.String(), exited); err != nil {
		out, _ := os.ReadFile(logFile.Name())
		stop()
		return "", nil, fmt.Errorf("%w: %s", err, out)
	}
	return u.String(), stop, nil
}

// startTied starts a server that the kernel ends together with this process,
// where it can: that covers tests that are killed or time out. The signal is
// bound to the thread that started the child, so that thread is kept.
func startTied(run *exec.Cmd) (exited <-chan struct{}, err error) {
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := run.Start()
		started <- err
		if err == nil {
			_ = run.Wait() // its end is what matters, not its status
		}
		close(done)
	}()
	return done, <-started
}

func awaitServer(maintenance string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, maintenance)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-exited:
			return errors.New("postgres ended at once")
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}
