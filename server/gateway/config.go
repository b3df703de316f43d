package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/server/route"
)

// Config says where requests go and how much of them. Start from
// [DefaultConfig].
type Config struct {
	// Upstreams are the services behind the gateway by domain id. The one under
	// [AnyDomain] serves every domain without one of its own. An upstream inherits
	// nothing from it: a credential goes to the host that it was configured for
	// and to no other.
	Upstreams map[string]Upstream
	// PublicURL is the base URL that clients know this server by; upstreams learn
	// it as X-Forwarded-Host and -Proto. Empty: what the client says.
	PublicURL string
	// PagesURL is the base URL of the pages on which people make tokens, for those who
	// are refused. Empty: PublicURL, else the one that the client itself asked.
	PagesURL string

	MaxJSONBody      int64 // bytes of a JSON body that must be looked at
	MaxMultipartBody int64 // bytes of a multipart body that must be looked at
	// MaxInFlight bounds the requests that may be under way at a time, streams included. Of
	// these one token may have three quarters, and all that have not verified together
	// as many. More get 503, those of such a token 429.
	MaxInFlight int
	// BodyTimeout is the time that a client may take to send such a body.
	BodyTimeout time.Duration
	// BodyPause bounds the time in which it sends nothing of it.
	BodyPause time.Duration
	// BodyMemory and BodyDisk are how many bytes all such bodies together may take.
	// Those over 1 MiB, and those that memory has no room for, go to disk. A body is
	// let go when it has been sent and the upstream answers.
	BodyMemory, BodyDisk int64
	// TokenShare is the share of either that the bodies of one token may take, in percent.
	TokenShare int
	// TempDir is the folder for bodies on disk, in files that are removed as soon as
	// they are open. Empty: the system's.
	TempDir string

	// MaxStream is the longest life of a proxied request, its answer included.
	MaxStream time.Duration
	// DialTimeout bounds the time to connect to an upstream, and again to
	// set TLS up.
	DialTimeout time.Duration
	// HeaderTimeout bounds the time that an upstream takes from the end of a request to
	// the first byte of its answer. Models that do not stream answer late.
	HeaderTimeout time.Duration
	// IdleTimeout is the time for which an unused connection to an upstream is kept. It is best
	// shorter than what upstreams do: many Python servers close after 5 s.
	IdleTimeout time.Duration
	// MaxIdle bounds the unused connections per upstream.
	MaxIdle int

	// KeyHeaders says that the token is also taken from the headers in which clients of model
	// APIs send a key, and from the sub-protocol of a WebSocket, see [request.Present].
	KeyHeaders bool
	// Origins are the web origins whose scripts may read answers, such as
	// https://chat.example.com, or [AnyOrigin]. None: no other origin may.
	Origins []string
	// PreflightAge is the time for which browsers may remember that they may ask.
	PreflightAge time.Duration
	// KeepAlive is the silence of an event stream after which a comment is sent, so that
	// nothing on the way takes the connection for a dead one. 0: never.
	KeepAlive time.Duration
}

// Upstream is a service behind the gateway.
type Upstream struct {
	// URL is the address behind /proxy/{domain}: an http or https URL without user,
	// query or fragment.
	URL string
	// Headers are set on every request.
	Headers map[string]secret.Text
	// Credential is sent in the header CredentialHeader, in the place of the
	// caller's token, such as `Bearer sk-…`. Empty: none.
	Credential secret.Text
	// CredentialHeader is the header for the credential; Authorization if empty.
	CredentialHeader string
}

// AnyDomain is the key of the upstream that every domain has which has none of
// its own.
const AnyDomain = "*"

// DefaultConfig returns the configuration that applies where nothing else is
// said. It has no upstreams.
func DefaultConfig() Config {
	return Config{
		MaxJSONBody:      16 << 20,
		MaxMultipartBody: 64 << 20,
		MaxInFlight:      4096,
		BodyTimeout:      5 * time.Minute,
		BodyPause:        30 * time.Second,
		BodyMemory:       64 << 20,
		BodyDisk:         2 << 30,
		TokenShare:       25,
		MaxStream:        time.Hour,
		DialTimeout:      10 * time.Second,
		HeaderTimeout:    10 * time.Minute,
		IdleTimeout:      4 * time.Second,
		MaxIdle:          64,
		KeyHeaders:       true,
		PreflightAge:     10 * time.Minute,
	}
}

// Validate returns everything that is wrong with c as one CodeInvalid error.
func (c Config) Validate() error {
	var v models.Invalid
	for domain, u := range c.Upstreams {
		at := "upstreams." + domain
		if domain != AnyDomain {
			models.ValidateDomainID(at, domain, &v)
		}
		u.validate(at, &v)
	}
	if c.PublicURL != "" {
		if _, problem := parseBase(c.PublicURL); problem != "" {
			v.Add("public_url", "%s", problem)
		}
	}
	for _, size := range []struct {
		field string
		value int64
	}{{"max_json_body", c.MaxJSONBody}, {"max_multipart_body", c.MaxMultipartBody}, {"max_idle", int64(c.MaxIdle)}, {"max_in_flight", int64(c.MaxInFlight)}} {
		if size.value < 1 {
			v.Add(size.field, "must be at least 1")
		}
	}
	if c.TokenShare < 1 || c.TokenShare > 100 {
		v.Add("token_share", "must be between 1 and 100 percent")
	}
	if c.BodyMemory < minBodyMemory {
		v.Add("body_memory", "must be at least %d bytes", minBodyMemory)
	}
	if c.BodyDisk < 0 {
		v.Add("body_disk", "must not be negative")
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"body_timeout", c.BodyTimeout},
		{"body_pause", c.BodyPause},
		{"max_stream", c.MaxStream},
		{"dial_timeout", c.DialTimeout},
		{"header_timeout", c.HeaderTimeout},
		{"idle_timeout", c.IdleTimeout},
	} {
		if d.value <= 0 {
			v.Add(d.field, "must be longer than zero")
		}
	}
	for i, origin := range c.Origins {
		if problem := CheckOrigin(origin); problem != "" {
			v.Add(fmt.Sprintf("origins[%d]", i), "%s", problem)
		}
	}
	if c.PreflightAge < 0 {
		v.Add("preflight_age", "must not be negative")
	}
	if c.KeepAlive != 0 && c.KeepAlive < minKeepAlive {
		v.Add("keep_alive", "must be 0 or at least %s", minKeepAlive)
	}
	return v.Err()
}

func (u Upstream) validate(at string, v *models.Invalid) {
	if _, problem := parseBase(u.URL); problem != "" {
		v.Add(at+".url", "%s", problem)
	}
	for name, value := range u.Headers {
		validateHeader(at+".headers", name, value, v)
	}
	switch {
	case u.Credential != "":
		validateHeader(at+".credential_header", u.credentialHeader(), u.Credential, v)
	case u.CredentialHeader != "":
		v.Add(at+".credential_header", "is set, but there is no credential")
	}
}

func (u Upstream) credentialHeader() string {
	if u.CredentialHeader == "" {
		return "Authorization"
	}
	return u.CredentialHeader
}

// ownHeaders are set by the gateway or by HTTP itself, in lower case.
var ownHeaders = map[string]bool{
	"host": true, "connection": true, "content-length": true, "transfer-encoding": true, "upgrade": true, "te": true,
	"trailer": true, "keep-alive": true, "proxy-connection": true, "expect": true, "x-request-id": true,
	"x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true,
}

func validateHeader(field, name string, value secret.Text, v *models.Invalid) {
	lower := strings.ToLower(name)
	switch {
	case !route.IsPlainName(name):
		v.Add(field, "%q is not a header name of letters, digits and hyphens", name)
	case ownHeaders[lower] || strings.HasPrefix(lower, route.IdentityPrefix):
		v.Add(field, "%s is set by Patrol itself", http.CanonicalHeaderKey(name))
	case !httpguts.ValidHeaderFieldValue(string(value)):
		v.Add(field, "the value of %s has a character that no header can have", http.CanonicalHeaderKey(name))
	}
}

// parseBase reads the base URL of an upstream, without a slash at its end, or
// says what is wrong with it without repeating it, since a URL can hold a
// password.
func parseBase(text string) (base *url.URL, problem string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, "must be a URL such as http://127.0.0.1:11434"
	case u.User != nil:
		return nil, "must have no user or password; use credential"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, "must have no query or fragment"
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if path != "" {
		if _, err := route.Parse(http.MethodGet, path, nil); err != nil {
			return nil, "must have a plain path"
		}
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), path
	return u, ""
}
