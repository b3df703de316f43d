package testenv

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is a PostgreSQL server of a test's own, which it may stop, freeze, fail over
// and throw away. Its commits reach the disk.
type Cluster struct {
	t        testing.TB
	dir      string // its parent; the data is in data
	password string
	port     string
	extra    []string
	run      *exec.Cmd
	exited   <-chan struct{}
}

// NewCluster starts an empty PostgreSQL server that ends with the test. Settings are
// given as name=value. Without PostgreSQL's programs it calls [Missing].
func NewCluster(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c := newCluster(t, settings)
	passwordFile := filepath.Join(c.dir, "password")
	c.must(os.WriteFile(passwordFile, []byte(c.password+"\n"), 0o600))
	attr, err := unprivileged(c.dir, passwordFile)
	c.must(err)
	c.command(attr, "initdb", "-D", c.data(), "-U", "patrol", "-E", "UTF8", "--locale=C", "--no-sync", "--auth=scram-sha-256", "--pwfile="+passwordFile)
	hba, err := os.OpenFile(filepath.Join(c.data(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	c.must(err)
	_, err = hba.WriteString("\nhost replication all 127.0.0.1/32 scram-sha-256\n")
	c.must(errors.Join(err, hba.Close()))
	c.Start()
	return c
}

func newCluster(t testing.TB, settings []string) *Cluster {
	t.Helper()
	if program("initdb") == "" || program("postgres") == "" || program("pg_basebackup") == "" {
		Missing(t, "postgres", "no initdb, postgres and pg_basebackup in PATH or /usr/lib/postgresql")
	}
	// Not t.TempDir: another user is to come through its parents.
	dir, err := os.MkdirTemp("", "patrol-pg-") //nolint:usetesting // as the line above says
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, dir: dir, password: "patrol", extra: settings}
	if c.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		_ = os.RemoveAll(dir)
	})
	return c
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		c.t.Fatalf("PostgreSQL: %v: %s", err, log)
	}
}

func (c *Cluster) command(attr *syscall.SysProcAttr, name string, args ...string) {
	c.t.Helper()
	cmd := exec.Command(program(name), args...)
	cmd.Dir, cmd.SysProcAttr = c.dir, attr
	cmd.Env = append(os.Environ(), "PGPASSWORD="+c.password)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// Standby starts a server that follows this one and lags behind it not at all, or from
// when its replay is paused.
func (c *Cluster) Standby(settings ...string) *Cluster {
	c.t.Helper()
	s := newCluster(c.t, settings)
	attr, err := unprivileged(s.dir)
	c.must(err)
	s.command(attr, "pg_basebackup", "-D", s.data(), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
		"-d", "host=127.0.0.1 port="+c.port+" user=patrol password="+c.password+" sslmode=disable")
	s.Start()
	return s
}

// Start starts the server, on the address that it always has.
func (c *Cluster) Start() {
	c.t.Helper()
	attr, err := unprivileged()
	c.must(err)
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	c.must(err)
	defer func() { _ = log.Close() }() // the child has its own handle
	args := []string{
		"-D", c.data(), "-h", "127.0.0.1", "-p", c.port, "-k", c.dir,
		"-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "wal_level=replica", "-c", "wal_keep_size=64MB",
	}
	for _, s := range c.extra {
		args = append(args, "-c", s)
	}
	c.run = exec.Command(program("postgres"), args...)
	c.run.Dir, c.run.SysProcAttr, c.run.Stdout, c.run.Stderr = c.dir, attr, log, log
	c.exited, err = startTied(c.run)
	c.must(err)
	if err := awaitServer(c.URL(), c.exited); err != nil {
		out, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		c.t.Fatalf("%v: %s", err, out)
	}
}

// URL names the server's own database.
func (c *Cluster) URL() string { return c.URLAt(c.Addr()) }

// URLAt is URL with another address, such as that of a proxy before the server.
func (c *Cluster) URLAt(addr string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("patrol", c.password), Host: addr, Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr is the server's address.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", c.port) }

// Stop ends the server as its operator would, cutting its clients.
func (c *Cluster) Stop() { c.end(os.Interrupt) }

// Kill ends the server at once, as a crash of its machine would.
func (c *Cluster) Kill() { c.end(syscall.SIGQUIT) }

func (c *Cluster) end(signal os.Signal) {
	if c.run == nil {
		return
	}
	_ = c.run.Process.Signal(signal)
	select {
	case <-c.exited:
	case <-time.After(patience):
		_ = c.run.Process.Kill()
		<-c.exited
	}
	c.run = nil
}

// Promote makes a standby the primary of what it has.
func (c *Cluster) Promote() {
	c.t.Helper()
	attr, err := unprivileged()
	c.must(err)
	c.command(attr, "pg_ctl", "promote", "-D", c.data(), "-w", "-t", fmt.Sprint(int(patience.Seconds())))
}

// Query runs a statement and returns the first column of its rows.
func (c *Cluster) Query(statement string) []string {
	c.t.Helper()
	out, err := queryAt(c.URL(), statement)
	c.must(err)
	return strings.Fields(strings.Join(out, "\n"))
}

// Save keeps what the server has now; the returned function takes it back to that. Both
// restart it.
func (c *Cluster) Save() (restore func()) {
	c.t.Helper()
	saved := filepath.Join(c.dir, "saved")
	copyData := func(from, to string) {
		c.t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			c.t.Fatalf("copy the data of PostgreSQL: %v: %s", err, out)
		}
	}
	c.Stop()
	copyData(c.data(), saved)
	c.Start()
	return func() {
		c.t.Helper()
		c.Stop()
		c.must(os.RemoveAll(c.data()))
		copyData(saved, c.data())
		c.must(os.RemoveAll(saved))
		c.Start()
	}
}

// AwaitStandby returns when the standby has all that the server has now.
func (c *Cluster) AwaitStandby(standby *Cluster) {
	c.t.Helper()
	end := c.Query("SELECT CAST(pg_current_wal_lsn() AS text)")[0]
	c.await(func() bool {
		return standby.Query("SELECT CAST(COALESCE(pg_last_wal_replay_lsn() >= '" + end + "', FALSE) AS text)")[0] == "true"
	})
}

// Unfollow has a standby receive nothing any more.
func (c *Cluster) Unfollow() {
	c.t.Helper()
	c.Query("ALTER SYSTEM SET primary_conninfo = ''")
	c.Query("SELECT CAST(pg_reload_conf() AS text)")
	c.await(func() bool { return c.Query("SELECT CAST(count(*) AS text) FROM pg_stat_wal_receiver")[0] == "0" })
}

func (c *Cluster) await(done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			c.t.Fatal("PostgreSQL: waited in vain")
		}
	}
}
