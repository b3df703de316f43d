package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"patrol/models"
	"patrol/server/manage"
	"patrol/server/request"
)

// Config is everything about the HTTP surface that an operator can choose. The
// zero value of a section is not usable: start from [DefaultConfig].
type Config struct {
	// Listen is the address of the API, host:port. Port 0 picks a free one.
	Listen string
	// MetricsListen moves /metrics to a listener of its own, host:port. Empty
	// leaves it on Listen, open to whoever reaches that.
	MetricsListen string
	// PublicURL is the base URL that people and browsers use, such as
	// https://patrol.example.com. With https, cookies are Secure with the __Host-
	// prefix and HSTS is sent. Empty: derived from the real listen address in
	// messages only.
	PublicURL string
	// DataDir is where the setup code is written on first start.
	DataDir string
	// TrustedProxies are the peers, as addresses or CIDR ranges, whose
	// X-Forwarded-For names the client. Nobody else's is read.
	TrustedProxies []string

	// BundleCredential is the Bearer token with which the policy in force may be
	// fetched; "" leaves that to the policy team.
	BundleCredential string

	// LogRetention and LogMaxRows are what the decision log keeps at most, to be told
	// beside how far back it reaches.
	LogRetention time.Duration
	LogMaxRows   int64

	TLS      TLSConfig
	HTTP     HTTPConfig
	Sessions SessionConfig
	Login    LoginConfig
	OIDC     OIDCConfig
	Limits   models.Limits

	Playground manage.PlaygroundConfig

	// SetupValidFor is how long the setup code of a first start is good.
	SetupValidFor time.Duration
}

// TLSConfig names the certificate that the API listener serves. Both files are
// read again when they change, without a restart.
type TLSConfig struct {
	CertFile string // PEM, leaf first; empty: plain HTTP
	KeyFile  string // PEM
	// ReloadInterval is how often the files are looked at, at most.
	ReloadInterval time.Duration
}

// HTTPConfig bounds what one client can hold on to. None of it cuts a stream
// under /proxy/, which the gateway bounds itself.
type HTTPConfig struct {
	ReadHeaderTimeout time.Duration // from the first byte to the end of the headers
	ReadTimeout       time.Duration // of an API request, body included
	WriteTimeout      time.Duration // from the end of the headers to the end of the answer
	IdleTimeout       time.Duration // between two requests of a connection
	MaxHeaderBytes    int           // request line and headers
	MaxConnections    int           // open at a time, per listener
	MaxBodyBytes      int64         // body of an API request
	MaxInFlight       int           // decisions that are made at a time, and again requests of other kinds; more are refused
	DrainDelay        time.Duration // how long everything is still served after /readyz began to say no
	ShutdownTimeout   time.Duration // how long requests in flight may take to end after that
}

// SessionConfig says how long a sign-in counts.
type SessionConfig struct {
	IdleTimeout time.Duration // since the last call
	Lifetime    time.Duration // since the sign-in
	// FreshFor is the age up to which a sign-in permits creating, rotating and
	// widening PATs.
	FreshFor time.Duration
}

// LoginConfig bounds guessing at passwords and what one guess costs.
type LoginConfig struct {
	PerAddress     int // failures a minute, per account and client address (IPv6: per /64)
	PerNetwork     int // failures a minute, per client address over all accounts that do not know it
	PerAccount     int // failures an hour, per account, over all addresses
	TrackedEntries int // accounts and addresses remembered at a time; the oldest are forgotten

	// ResetValidFor is how long a code is good with which a password is reset.
	ResetValidFor time.Duration

	Argon2Memory     uint32        // KiB per hash
	Argon2Iterations uint32        // passes over it
	Argon2Lanes      uint8         // threads per hash
	Concurrency      int           // hashes computed at a time
	Queue            int           // hashes that may wait for a turn; more are refused
	QueueTimeout     time.Duration // how long one may wait
}

// DefaultConfig returns the configuration that applies where nothing else is
// said.
func DefaultConfig() Config {
	return Config{
		Listen:  "127.0.0.1:8080",
		DataDir: "./data",

		LogRetention: 30 * 24 * time.Hour,
		LogMaxRows:   2_000_000,

		TLS: TLSConfig{ReloadInterval: 10 * time.Second},
		HTTP: HTTPConfig{
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			MaxBodyBytes:      64 << 10,
			MaxInFlight:       1024,
			MaxConnections:    16384,
			DrainDelay:        5 * time.Second,
			ShutdownTimeout:   30 * time.Second,
		},
		Sessions: SessionConfig{
			IdleTimeout: 12 * time.Hour,
			Lifetime:    7 * 24 * time.Hour,
			FreshFor:    10 * time.Minute,
		},
		Login: LoginConfig{
			PerAddress:       5,
			PerAccount:       100,
			PerNetwork:       50,
			TrackedEntries:   16384,
			ResetValidFor:    24 * time.Hour,
			Argon2Memory:     19 << 10,
			Argon2Iterations: 2,
			Argon2Lanes:      1,
			Concurrency:      max(1, runtime.GOMAXPROCS(0)/2),
			Queue:            64,
			QueueTimeout:     5 * time.Second,
		},
		OIDC:          DefaultOIDC(),
		Playground:    manage.PlaygroundConfig{Timeout: 35 * time.Second, PerMinute: 20, MaxBody: 1 << 20, MaxReplay: 10_000},
		Limits:        models.DefaultLimits(),
		SetupValidFor: 30 * time.Minute,
	}
}

// Validate returns everything that is wrong with c, in the words of its fields.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(validListen(c.Listen), "listen %q is not host:port", c.Listen)
	check(c.MetricsListen == "" || validListen(c.MetricsListen), "metrics listen %q is not host:port", c.MetricsListen)
	if _, err := publicOrigin(c.PublicURL); err != nil {
		errs = append(errs, err)
	}
	check(c.DataDir != "", "the data directory is empty")
	if _, err := request.ParseProxies(c.TrustedProxies); err != nil {
		errs = append(errs, err)
	}
	check(c.SetupValidFor > 0, "the setup code's validity must be longer than zero")
	check(c.Limits.MaxLifetime >= time.Second && c.Limits.MaxScopes > 0 && c.Limits.MaxLive > 0 && c.Limits.MaxGrace >= 0,
		"token limits must be positive, and the maximum lifetime at least 1s")
	return errors.Join(append(errs, c.TLS.Validate(), c.HTTP.Validate(), c.Sessions.Validate(), c.Login.Validate(), c.OIDC.Validate(c.PublicURL), c.Playground.Validate())...)
}

// Validate returns what is wrong with the section.
func (c TLSConfig) Validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("TLS needs both a certificate file and a key file")
	}
	if c.ReloadInterval <= 0 {
		return errors.New("the TLS reload interval must be longer than zero")
	}
	return nil
}

// Validate returns what is wrong with the section.
func (c HTTPConfig) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"read-header timeout", c.ReadHeaderTimeout},
		{"read timeout", c.ReadTimeout},
		{"write timeout", c.WriteTimeout},
		{"idle timeout", c.IdleTimeout},
		{"shutdown timeout", c.ShutdownTimeout},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("the %s must be longer than zero", d.name))
		}
	}
	if c.DrainDelay < 0 {
		errs = append(errs, errors.New("the drain delay must not be negative"))
	}
	if c.MaxHeaderBytes < 4<<10 {
		errs = append(errs, errors.New("the maximum header size must be at least 4096 bytes"))
	}
	if c.MaxConnections < 4 {
		errs = append(errs, errors.New("the number of connections must be at least 4"))
	}
	if c.MaxInFlight < 4 {
		errs = append(errs, errors.New("the number of requests in flight must be at least 4"))
	}
	if c.MaxBodyBytes < 4<<10 {
		errs = append(errs, errors.New("the maximum body size must be at least 4096 bytes"))
	}
	return errors.Join(errs...)
}

// Validate returns what is wrong with the section.
func (c SessionConfig) Validate() error {
	switch {
	case c.IdleTimeout <= 0 || c.Lifetime <= 0 || c.FreshFor <= 0:
		return errors.New("session times must be longer than zero")
	case c.IdleTimeout > c.Lifetime:
		return errors.New("a session's idle timeout is longer than its lifetime")
	}
	return nil
}

// Validate returns what is wrong with the section. It refuses argon2id
// parameters below OWASP's least (19 MiB, two passes, or 7 MiB and five).
func (c LoginConfig) Validate() error {
	var errs []error
	if c.PerAddress < 1 || c.PerAccount < 1 || c.PerNetwork < 1 || c.TrackedEntries < 1 {
		errs = append(errs, errors.New("login limits must be at least 1"))
	}
	if c.ResetValidFor <= 0 {
		errs = append(errs, errors.New("the reset code's validity must be longer than zero"))
	}
	if c.Argon2Lanes < 1 || c.Argon2Iterations < 2 || uint64(c.Argon2Memory)*uint64(c.Argon2Iterations) < 5*(7<<10) {
		errs = append(errs, errors.New("the argon2id parameters are too cheap: use at least 19456 KiB with 2 iterations"))
	}
	if c.Argon2Memory > 4<<20 || c.Argon2Iterations > 100 {
		errs = append(errs, errors.New("the argon2id parameters are too expensive: at most 4 GiB and 100 iterations"))
	}
	if c.Concurrency < 1 || c.Queue < 0 || c.QueueTimeout <= 0 {
		errs = append(errs, errors.New("password hashing needs a concurrency of at least 1 and a queue timeout longer than zero"))
	}
	return errors.Join(errs...)
}

func validListen(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = net.LookupPort("tcp", port) //nolint:noctx // it reads a local list of names and waits for nothing
	return err == nil
}

// publicOrigin returns the origin of a public URL, "" for an empty one.
func publicOrigin(publicURL string) (string, error) {
	if publicURL == "" {
		return "", nil
	}
	u, err := url.Parse(publicURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the public URL %q is not of the form https://host", publicURL)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("the public URL must have no user, path, query or fragment: Patrol is served at the root of its host")
	}
	return u.Scheme + "://" + u.Host, nil
}

func (c Config) setupFile() string { return filepath.Join(c.DataDir, "setup-code") }
