// Package systemd tells systemd how a service is (sd_notify(3), services of Type=notify): a
// datagram for each thing that is said, to the socket that the environment names.
//
// It is written out here since it is a few lines, and the library for it brings the whole of
// systemd's D-Bus along.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What can be said.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// Manager is the service manager that started the program.
type Manager struct {
	address *net.UnixAddr
	// Watchdog is the time within which it must hear [Alive] again; 0: it need not.
	Watchdog time.Duration
}

// Find returns who is to be told, by an environment in the form of os.Environ; nil if nobody
// is.
func Find(environ []string) (*Manager, error) {
	get := func(name string) (value string) {
		for _, entry := range environ {
			if v, ok := strings.CutPrefix(entry, name+"="); ok {
				value = v
			}
		}
		return value
	}
	path := get("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil //nolint:nilnil // nobody is one of the answers
	}
	if path[0] != '/' && path[0] != '@' { // the latter has no place in the file system
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q, which is no socket of this machine", path)
	}
	m := &Manager{address: &net.UnixAddr{Name: path, Net: "unixgram"}}
	every := get("WATCHDOG_USEC")
	if pid := get("WATCHDOG_PID"); every == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, nil
	}
	microseconds, err := strconv.ParseInt(every, 10, 64)
	if err != nil || microseconds <= 0 {
		return nil, fmt.Errorf("WATCHDOG_USEC is %q, which is no time", every)
	}
	m.Watchdog = time.Duration(microseconds) * time.Microsecond
	return m, nil
}

// Tell says something.
func (m *Manager) Tell(what ...string) error {
	conn, err := net.DialUnix("unixgram", nil, m.address)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(strings.Join(what, "\n"))); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
