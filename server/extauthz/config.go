package extauthz

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"patrol/server/deadline"
	"patrol/server/request"
	"patrol/server/route"
)

// Config is all that an operator can choose. Start from [DefaultConfig].
type Config struct {
	// Listen is host:port. Port 0 picks a free one.
	Listen string
	TLS    TLSConfig

	// PagesURL is the base URL of the pages on which people make tokens, for those who
	// are refused. Empty: it is not known.
	PagesURL string

	// Timeout is the time that an answer may take; Margin is the time before Envoy's
	// deadline it is given if that comes first. After that it is a denial.
	Timeout time.Duration
	Margin  time.Duration
	// MaxInFlight bounds the requests that are judged at a time. More are denied.
	MaxInFlight int
	// MaxMessageBytes must be above Envoy's max_request_bytes, by the size of the
	// request's head. A larger message is denied.
	MaxMessageBytes int
	// MaxReceiving bounds the bytes that messages which arrive or are judged may have
	// together; one of the largest size has room at least. Where it ends, those that
	// have sent nothing for longest are denied.
	MaxReceiving int64
	// ReceiveTimeout is the time that a message may take to arrive.
	ReceiveTimeout time.Duration
	// MaxConnections bounds the connections that may be open at a time. One network has
	// three quarters of them at most.
	MaxConnections int
	// MaxStreams bounds the requests that a connection may have under way.
	MaxStreams int

	// RemoveHeaders are taken from allowed requests, besides those in Patrol's own
	// name, which always are.
	RemoveHeaders []string
	// KeepHeaders are headers of [request.Foreign] that pass, because a filter of Envoy
	// before this one sets them over what the client sent.
	KeepHeaders []string
	// KeyHeaders says that the token is also taken from the headers in which clients of model
	// APIs send a key, and from the sub-protocol of a WebSocket, and taken out of them.
	KeyHeaders bool
	// TrustedProxies are the peers of Envoy, as addresses or ranges, whose
	// X-Forwarded-For names the client. Empty: the client is who Envoy says.
	TrustedProxies []string

	// DryRun allows everything and records what would have been denied.
	DryRun bool
	// RouteDryRun permits the same route by route, with the context extension
	// patrol.dry_run: "true", which is ignored otherwise.
	RouteDryRun bool

	// Reflection describes the service to grpcurl and the like.
	Reflection bool
	Keepalive  KeepaliveConfig

	// DrainDelay is the time for which everything is still served after the end was
	// announced through the health service, unless nobody is connected any more.
	// It must be longer than it takes an Envoy to notice, which is the interval of
	// its health checks.
	DrainDelay time.Duration
	// DrainTimeout is the time that requests in flight may take to end after that.
	DrainTimeout time.Duration
}

// TLSConfig names the files of the listener's TLS. They are read again when they
// change.
type TLSConfig struct {
	CertFile string // PEM, leaf first; empty: no TLS
	KeyFile  string // PEM
	// ClientCAFile holds the authorities, PEM, one of which must have signed the
	// certificate that a client has to show then. Empty: clients show none.
	ClientCAFile   string
	ReloadInterval time.Duration // how often the files are looked at
}

// KeepaliveConfig is about connections on which nothing happens.
type KeepaliveConfig struct {
	Time    time.Duration // of silence after which a peer is pinged
	Timeout time.Duration // to answer it
	// MinClientTime is the least time between two pings of a client, whose
	// connection is closed if it pings more often.
	MinClientTime time.Duration
	// MaxConnectionAge has connections made anew this often, so that load
	// spreads to new replicas. 0: never.
	MaxConnectionAge time.Duration
}

// DefaultConfig returns the configuration that applies where nothing else is
// said.
func DefaultConfig() Config {
	return Config{
		Listen:          "127.0.0.1:9191",
		TLS:             TLSConfig{ReloadInterval: 10 * time.Second},
		Timeout:         150 * time.Millisecond, // Envoy gives up after 200 ms unless told otherwise
		Margin:          20 * time.Millisecond,
		MaxInFlight:     1024,
		MaxMessageBytes: 17 << 20, // a JSON body of 16 MiB, and the head
		MaxReceiving:    24 << 20,
		ReceiveTimeout:  10 * time.Second,
		MaxConnections:  16384,
		MaxStreams:      256,
		KeyHeaders:      true,
		RemoveHeaders:   []string{"authorization"},
		Keepalive: KeepaliveConfig{
			Time:          30 * time.Second,
			Timeout:       10 * time.Second,
			MinClientTime: 5 * time.Second,
		},
		DrainDelay:   5 * time.Second,
		DrainTimeout: 30 * time.Second,
	}
}

// maxMessage is the largest MaxMessageBytes.
const maxMessage = 256 << 20

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port) //nolint:noctx // it reads a local list of names and waits for nothing
	}
	check(err == nil, "listen %q is not host:port", c.Listen)
	check((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "TLS needs both a certificate file and a key file")
	check(c.TLS.ClientCAFile == "" || c.TLS.CertFile != "", "clients can show certificates only over TLS: the client CA needs a certificate file and a key file")
	check(c.TLS.ReloadInterval > 0, "the TLS reload interval must be longer than zero")
	errs = append(errs, c.limits().Validate())
	check(c.MaxMessageBytes >= 64<<10 && c.MaxMessageBytes <= maxMessage, "the largest message must be between 64KiB and %dMiB", maxMessage>>20)
	check(c.MaxReceiving >= 1<<20, "the messages that arrive must have room for at least 1MiB")
	check(c.ReceiveTimeout > 0, "the time for a message to arrive must be longer than zero")
	check(c.MaxConnections >= 4, "the number of connections must be at least 4")
	check(c.MaxStreams >= 1 && c.MaxStreams <= 1<<20, "the number of streams must be between 1 and %d", 1<<20)
	for _, name := range c.RemoveHeaders {
		check(removable(name), "header %q cannot be removed", name)
	}
	if _, err := request.ParseProxies(c.TrustedProxies); err != nil {
		errs = append(errs, err)
	}
	check(c.Keepalive.Time >= time.Second && c.Keepalive.Timeout > 0, "the keepalive time must be at least 1s, its timeout longer than zero")
	check(c.Keepalive.MinClientTime >= 0 && c.Keepalive.MaxConnectionAge >= 0, "keepalive times must not be negative")
	check(c.DrainDelay >= 0, "the drain delay must not be negative")
	check(c.DrainTimeout > 0, "the drain timeout must be longer than zero")
	return errors.Join(errs...)
}

func (c Config) limits() deadline.Limits {
	return deadline.Limits{Timeout: c.Timeout, Margin: c.Margin, MaxInFlight: c.MaxInFlight}
}

// removable reports whether Envoy removes a header of this name: not its pseudo
// headers and not Host. Those that are set cannot be removed as well, because
// Envoy removes after it sets.
func removable(name string) bool {
	name = strings.ToLower(name)
	return route.IsPlainName(name) && name != "host" && !request.IsIdentity(name)
}
