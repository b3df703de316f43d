//go:build unix

package systemd_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/systemd"
)

func TestFind(t *testing.T) {
	own, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, c := range []struct {
		name     string
		environ  []string
		nobody   bool
		watchdog time.Duration
		wrong    string
	}{
		{name: "nobody", environ: []string{"HOME=/", "WATCHDOG_USEC=1"}, nobody: true},
		{name: "empty", environ: []string{"NOTIFY_SOCKET="}, nobody: true},
		{name: "without a watchdog", environ: []string{"NOTIFY_SOCKET=/run/systemd/notify"}},
		{name: "with one", environ: []string{"NOTIFY_SOCKET=@abstract", "WATCHDOG_USEC=30000000"}, watchdog: 30 * time.Second},
		{name: "of this process", environ: []string{"NOTIFY_SOCKET=/s", "WATCHDOG_USEC=1000", "WATCHDOG_PID=" + own}, watchdog: time.Millisecond},
		{name: "of another process", environ: []string{"NOTIFY_SOCKET=/s", "WATCHDOG_USEC=1000", "WATCHDOG_PID=" + other}},
		{name: "the last counts", environ: []string{"NOTIFY_SOCKET=relative", "NOTIFY_SOCKET=/s"}},
		{name: "a socket elsewhere", environ: []string{"NOTIFY_SOCKET=vsock:2:1234"}, wrong: "NOTIFY_SOCKET"},
		{name: "no time", environ: []string{"NOTIFY_SOCKET=/s", "WATCHDOG_USEC=soon"}, wrong: "WATCHDOG_USEC"},
		{name: "a time that is past", environ: []string{"NOTIFY_SOCKET=/s", "WATCHDOG_USEC=-1"}, wrong: "WATCHDOG_USEC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := systemd.Find(c.environ)
			if c.wrong != "" {
				assert.ErrorContains(t, err, c.wrong)
				return
			}
			require.NoError(t, err)
			if c.nobody {
				assert.Nil(t, m)
				return
			}
			require.NotNil(t, m)
			assert.Equal(t, c.watchdog, m.Watchdog)
		})
	}
}

func TestTell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	m, err := systemd.Find([]string{"NOTIFY_SOCKET=" + path})
	require.NoError(t, err)
	require.NoError(t, m.Tell(systemd.Ready, "STATUS=well"))
	got := make([]byte, 100)
	n, err := conn.Read(got)
	require.NoError(t, err)
	assert.Equal(t, "READY=1\nSTATUS=well", string(got[:n]))

	gone, err := systemd.Find([]string{"NOTIFY_SOCKET=" + path + "-gone"})
	require.NoError(t, err)
	assert.ErrorContains(t, gone.Tell(systemd.Ready), "tell systemd")
}
