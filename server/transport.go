package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"patrol/models/store"
)

// strictTransport tells browsers to come back over https alone (RFC 6797).
type strictTransport struct {
	value  []string // of the header; nil: it is not sent
	public bool     // the public URL says what the host is called
}

func newTransport(origin string, subdomains, secure bool) (strictTransport, error) {
	if !secure {
		return strictTransport{}, nil
	}
	t := strictTransport{value: []string{"max-age=31536000"}}
	if subdomains {
		t.value = []string{"max-age=31536000; includeSubDomains"}
	}
	if origin == "" {
		return t, nil
	}
	u, err := url.Parse(origin)
	if err != nil {
		return strictTransport{}, err
	}
	if u.Scheme != "https" || thisMachine(u.Hostname()) {
		return strictTransport{}, nil
	}
	t.public = true
	return t, nil
}

// tell sets the header, unless the host of the request is an address or this machine, where
// other programs are served too: those would be shut out. Behind a proxy the host may be what
// the proxy calls this server; the public URL counts there.
func (t strictTransport) tell(h http.Header, r *http.Request) {
	if t.value == nil || (r.TLS != nil || !t.public) && thisMachine(hostname(r.Host)) {
		return
	}
	h["Strict-Transport-Security"] = t.value
}

// hostname takes the port off the host of a request.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// thisMachine reports whether a host is no name for HSTS: an address, localhost, or nothing.
func thisMachine(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// installationOf reads which installation a database is of.
func installationOf(s *store.Store) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	id, err := s.Installation(ctx)
	if err != nil {
		return "", fmt.Errorf("read which installation the database is of: %w", err)
	}
	return id, nil
}
