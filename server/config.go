package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"patrol/models"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
)

// Config is everything about the HTTP surface that an operator can choose. The
// zero value of a section is not usable: start from [DefaultConfig].
type Config struct {
	// Listen is the address of the API, host:port. Port 0 picks a free one.
	Listen string
	// MetricsListen moves /metrics to a listener of its own, host:port. Empty
	// leaves it on Listen, for programs on this machine.
	MetricsListen string
	// MetricsPublic opens /metrics on Listen to whoever reaches that.
	MetricsPublic bool
	// PublicURL is the base URL that people and browsers use, such as
	// https://patrol.example.com. With https, or with TLS on the listener, cookies are
	// Secure with the __Host- prefix and HSTS is sent. Empty: derived from the real
	// listen address in messages only; links that people are handed are relative then.
	PublicURL string
	// DataDir holds the setup code that is written on first start.
	DataDir string
	// TrustedProxies are the peers, as addresses or CIDR ranges, whose
	// X-Forwarded-For names the client. Nobody else's is read.
	TrustedProxies []string
	// TrustedCallers are the callers of /authorize, likewise, whose word about the
	// client that they ask for is taken.
	TrustedCallers []string

	// AuthZENDomain is the domain of resources that AuthZEN clients ask about without
	// naming one; "": they have to.
	AuthZENDomain string

	// BundleCredential is the Bearer token with which the policy in force may be
	// fetched; "" leaves that to the policy team.
	BundleCredential string

	// LogRetention and LogMaxRows bound what the decision log keeps, to be told
	// beside how far back it reaches.
	LogRetention time.Duration
	LogMaxRows   int64

	TLS      TLSConfig
	HTTP     HTTPConfig
	Sessions identity.SessionConfig
	Login    identity.LoginConfig
	OIDC     identity.OIDCConfig
	Limits   models.Limits

	Playground manage.PlaygroundConfig
	// FoundPerMinute bounds the reports of found tokens from one address.
	FoundPerMinute int
	// Lookups bounds the people that one admin of a domain may look up in a minute.
	Lookups int

	// SetupValidFor is the lifetime of the setup code of a first start.
	SetupValidFor time.Duration
}

// TLSConfig names the certificate that the API listener serves. Both files are
// read again when they change, without a restart.
type TLSConfig struct {
	CertFile string // PEM, leaf first; empty: plain HTTP
	KeyFile  string // PEM
	// ReloadInterval is the time between two looks at the files.
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
	// HSTSIncludeSubdomains has the header that keeps browsers on https speak for the
	// hosts below the public one, too.
	HSTSIncludeSubdomains bool
	MaxInFlight           int           // decisions that are made at a time, and again requests of other kinds; more are refused
	DrainDelay            time.Duration // how long everything is still served after /readyz began to say no
	ShutdownTimeout       time.Duration // how long requests in flight may take to end after that
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
		Sessions: identity.DefaultSessions(),
		Login:    identity.DefaultLogin(),
		OIDC:     identity.DefaultOIDC(),
		Lookups:  20, FoundPerMinute: 20,
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
	if _, err := request.ParseProxies(c.TrustedCallers); err != nil {
		errs = append(errs, err)
	}
	check(c.SetupValidFor > 0, "the setup code's validity must be longer than zero")
	check(c.Limits.MaxLifetime >= time.Second && c.Limits.MaxScopes > 0 && c.Limits.MaxLive > 0 && c.Limits.MaxAllowedIPs > 0 && c.Limits.MaxGrace >= 0,
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
