package forwardauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"patrol/server/deadline"
	"patrol/server/request"
	"patrol/server/route"
)

// Dialect is the form in which a kind of proxy describes the client's request.
type Dialect string

// The dialects.
const (
	// Envoy sends the client's method, and its target behind Prefix as its own
	// (`path_prefix`), and with `with_request_body` the body.
	Envoy Dialect = "envoy"
	// Nginx sends X-Original-Method and X-Original-URI, which its configuration
	// sets.
	Nginx Dialect = "nginx"
	// Traefik sends X-Forwarded-Method and X-Forwarded-Uri.
	Traefik Dialect = "traefik"
	// Caddy sends the same.
	Caddy Dialect = "caddy"
	// HAProxy sends X-Original-Method and X-Original-URI, which its configuration
	// sets.
	HAProxy Dialect = "haproxy"
)

// Dialects lists the dialects.
func Dialects() []Dialect { return []Dialect{Envoy, Nginx, Traefik, Caddy, HAProxy} }

// Config says who may ask and how. Start from [DefaultConfig].
type Config struct {
	// Peers are the addresses or ranges, by dialect, of the proxies that speak it.
	// No address may speak two.
	Peers map[Dialect][]string

	// PagesURL is the base URL of the pages on which people make tokens, for those who
	// are refused. Empty: it is not known.
	PagesURL string

	// Timeout is the time that an answer may take; after that it is a denial.
	Timeout time.Duration
	// MaxInFlight bounds the requests that are judged at a time. More are denied.
	MaxInFlight int
	// MaxBodyBytes is the largest body that Envoy may send; of a larger one nobody
	// can tell what it says.
	MaxBodyBytes int64
	// MaxReceiving bounds the bytes of all bodies that are looked at together;
	// one of the largest size has room at least.
	MaxReceiving int64
	// EnvoyUnavailable is the status with which Envoy is told that nothing could be
	// decided: a 4xx, or 503 where Envoy's failure_mode_allow is false for certain.
	EnvoyUnavailable int
	// RemoveHeaders are the headers that Envoy removes from allowed requests, besides
	// those in Patrol's own name. Other proxies cannot be told.
	RemoveHeaders []string
	// KeyHeaders are the dialects of the proxies from which the token is also taken out of the headers in
	// which clients of model APIs send a key. Envoy is told to remove them; the configuration of
	// others has to.
	KeyHeaders []Dialect
	// KeepHeaders are headers of [request.Foreign] that Envoy may pass on, because a
	// filter before this one sets them over what the client sent.
	KeepHeaders []string
}

// DefaultConfig returns the configuration that applies where nothing else is said.
// Nobody may ask.
func DefaultConfig() Config {
	return Config{
		Timeout:          150 * time.Millisecond, // Envoy gives up after 200 ms unless told otherwise
		MaxInFlight:      1024,
		MaxBodyBytes:     16 << 20,
		MaxReceiving:     64 << 20,
		EnvoyUnavailable: http.StatusForbidden,
		RemoveHeaders:    []string{"authorization"},
		KeyHeaders:       []Dialect{Envoy},
	}
}

// Enabled reports whether anybody may ask.
func (c Config) Enabled() bool {
	for _, peers := range c.Peers {
		if len(peers) > 0 {
			return true
		}
	}
	return false
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	_, err := parsePeers(c.Peers)
	errs := []error{err, c.limits().Validate()}
	if c.MaxBodyBytes < 1 {
		errs = append(errs, errors.New("the largest body must be at least 1 byte"))
	}
	if c.MaxReceiving < 1<<20 {
		errs = append(errs, errors.New("the bodies that are looked at must have room for at least 1MiB"))
	}
	if s := c.EnvoyUnavailable; s != http.StatusServiceUnavailable && (s < 400 || s > 499) {
		errs = append(errs, fmt.Errorf("the status %d for Envoy must be 400 to 499, or 503", s))
	}
	for _, name := range c.RemoveHeaders {
		if !route.IsPlainName(name) || request.IsIdentity(name) {
			errs = append(errs, fmt.Errorf("header %q cannot be removed", name))
		}
	}
	for _, d := range c.KeyHeaders {
		if !slices.Contains(Dialects(), d) {
			errs = append(errs, fmt.Errorf("there is no dialect %q", d))
		}
	}
	return errors.Join(errs...)
}

// margin is the time before the client's own deadline at which an answer is given, if it
// has one; proxies do not say.
const margin = 20 * time.Millisecond

func (c Config) limits() deadline.Limits {
	return deadline.Limits{Timeout: c.Timeout, Margin: margin, MaxInFlight: c.MaxInFlight}
}

// speaker is a range of addresses and what is spoken there.
type speaker struct {
	peers   netip.Prefix
	dialect Dialect
}

type speakers []speaker

func parsePeers(peers map[Dialect][]string) (speakers, error) {
	var out speakers
	var errs []error
	for _, dialect := range Dialects() {
		for _, text := range peers[dialect] {
			prefix, err := request.ParseNetwork(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s peer %q is neither an address nor a range such as 10.0.0.0/8", dialect, text))
				continue
			}
			for _, other := range out {
				if other.dialect != dialect && other.peers.Overlaps(prefix) {
					errs = append(errs, fmt.Errorf("peer %q speaks both %s and %s; an address can speak one", text, other.dialect, dialect))
				}
			}
			out = append(out, speaker{peers: prefix, dialect: dialect})
		}
	}
	for dialect := range peers {
		if !slices.Contains(Dialects(), dialect) {
			errs = append(errs, fmt.Errorf("there is no dialect %q", dialect))
		}
	}
	return out, errors.Join(errs...)
}

// dialect returns what peer speaks, "" if it may not speak.
func (s speakers) dialect(peer netip.Addr) Dialect {
	for _, speaker := range s {
		if speaker.peers.Contains(peer) {
			return speaker.dialect
		}
	}
	return ""
}
