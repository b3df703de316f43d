//go:build unix

package main

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSystemd starts a server as systemd does, with a watchdog, and hears what it says: that it
// is ready once it answers, that it lives as long as it answers and no longer, and that it ends.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	hear := func(within time.Duration) string {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(within)))
		got := make([]byte, 1000)
		n, err := conn.Read(got)
		if err != nil {
			return ""
		}
		return string(got[:n])
	}

	self, err := os.Executable()
	require.NoError(t, err)
	program := filepath.Join(dir, "patrol")
	require.NoError(t, os.Symlink(self, program))
	cmd := exec.CommandContext(t.Context(), program, "serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
	cmd.Env = []string{"HOME=" + dir, "NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=600000"}
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()

	ready := hear(patience)
	require.True(t, strings.HasPrefix(ready, "READY=1\nSTATUS=Answering at http://127.0.0.1:"), ready)
	_, base, _ := strings.Cut(ready, "Answering at ")
	health, err := askHealth(t.Context(), base, true, true)
	require.NoError(t, err)
	assert.Equal(t, "ok", health.Status)
	assert.Equal(t, "WATCHDOG=1", hear(patience))
	assert.Equal(t, "WATCHDOG=1", hear(patience))

	// What stands still says nothing, so that systemd starts it anew.
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	for hear(time.Second) != "" { // what was said before
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	assert.Equal(t, "WATCHDOG=1", hear(patience))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var last string
	for last = hear(patience); last == "WATCHDOG=1"; last = hear(patience) {
	}
	assert.True(t, strings.HasPrefix(last, "STOPPING=1"), last)
	require.NoError(t, cmd.Wait(), log.String())
}

// A server that does not answer is not called alive.
func TestWatchdogOfAServerThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	require.NoError(t, err)
	defer func() { assert.NoError(t, deaf.Close()) }()
	p := &process{environ: []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=60000"}, stderr: os.Stderr}
	stop, err := p.tellManager(t.Context(), "http://"+deaf.Addr().String(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	n, err := conn.Read(make([]byte, 100))
	assert.Error(t, err, "it said something of %d bytes", n)
	stop()
}
