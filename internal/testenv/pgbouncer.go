package testenv

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// PgBouncer starts PgBouncer before a server and returns where it listens. Settings
// are given as name=value; the pool mode is among them. It ends with the test. Without
// PgBouncer it calls [Missing].
func PgBouncer(t testing.TB, c *Cluster, settings ...string) (addr string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !isFile(program) { // Debian keeps it out of users' PATH
			Missing(t, "pgbouncer", "no pgbouncer in PATH or /usr/sbin")
		}
	}
	dir, err := os.MkdirTemp("", "patrol-pgbouncer-") //nolint:usetesting // another user is to come through its parents
	c.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := freePort()
	c.must(err)
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	c.must(os.WriteFile(users, []byte(fmt.Sprintf("\"patrol\" %q\n", c.password)), 0o600))
	c.must(os.WriteFile(config, []byte("[databases]\n* = host=127.0.0.1 port="+c.port+"\n[pgbouncer]\n"+strings.Join(append([]string{
		"listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =", "auth_type = scram-sha-256", "auth_file = " + users,
		"admin_users = patrol", "max_client_conn = 500", "logfile = " + filepath.Join(dir, "log"),
	}, settings...), "\n")+"\n"), 0o600))
	attr, err := unprivileged(dir, users, config)
	c.must(err)
	run := exec.Command(program, config)
	run.Dir, run.SysProcAttr = dir, attr
	exited, err := startTied(run)
	c.must(err)
	t.Cleanup(func() {
		_ = run.Process.Kill()
		<-exited
	})
	addr = net.JoinHostPort("127.0.0.1", port)
	c.await(func() bool {
		select {
		case <-exited:
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("PgBouncer ended at once: %s", log)
		default:
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr
}
