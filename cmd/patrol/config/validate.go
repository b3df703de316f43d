package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/gateway"
	"patrol/server/route"
)

// validate adds to v, under the settings' keys, everything that cannot work.
func (c Config) validate(v *models.Invalid) {
	checkAddress("listen", c.Listen, v)
	if c.GRPCListen != "" {
		checkAddress("grpc_listen", c.GRPCListen, v)
	}
	if c.PublicURL != "" {
		u, ok := checkURL("public_url", c.PublicURL, v)
		if ok && strings.Trim(u.Path, "/") != "" {
			v.Add("public_url", "must have no path: Patrol is served at the root of its host")
		}
	}
	if c.OIDC.Issuer != "" && c.PublicURL == "" {
		v.Add("public_url", "is required with oidc.issuer: the provider sends people back there")
	}
	if c.DataDir == "" {
		v.Add("data_dir", "is required")
	}
	if c.Database.URL != SQLiteIn(c.DataDir) {
		checkFile("database.url", c.Database.URL, v)
	}
	checkFile("decision_log.database_url", c.DecisionLog.DatabaseURL, v)
	checkPolicy("policy", c.Policy, v)
	c.Shadow.validate(c.Policy, v)
	if c.TokenKeys != "" && !isPath(c.TokenKeys.Reveal()) {
		if _, err := models.ParseKeyring(c.TokenKeys.Reveal()); err != nil {
			v.Add("token_keys", "%s", err)
		}
	}
	checkNetworks("trusted_proxies", c.TrustedProxies, v)
	checkNetworks("trusted_callers", c.TrustedCallers, v)
	c.validateUpstreams(v)
	for _, section := range []interface{ validate(v *models.Invalid) }{
		c.Database, c.TLS, c.Log, c.Metrics, c.Profiling, c.Memory, c.HTTP, c.Tokens, c.Sessions, c.Audit, c.Domains, c.Passwords, c.OIDC, c.Decisions, c.DecisionLog, c.Bundle, c.Gate, c.Playground, c.Gateway,
		c.ExtAuthz, c.ForwardAuth, c.AuthZEN,
	} {
		section.validate(v)
	}
	c.validateProxies(v)
	if c.Decisions.Required && !c.DecisionLog.On() {
		v.Add("decisions.required", "there is no decision log: set decision_log.database, file or endpoint")
	}
	if c.Gate.ReplaySince > 0 && !c.DecisionLog.Database {
		v.Add("gate.replay_since", "there are no decisions to make again: set decision_log.database")
	}
}

func (c Config) validateUpstreams(v *models.Invalid) {
	if c.Upstream != "" {
		checkURL("upstream", c.Upstream, v)
	}
	all := c.AllUpstreams()
	if _, ok := all[AnyDomain]; c.UpstreamCred != "" && !ok {
		v.Add("upstream_credential", "there is no upstream to send it to: set upstream")
	}
	checkHeaderValue("upstream_credential", c.UpstreamCred, v)
	checkKind("upstream_kind", c.UpstreamKind, v)
	for _, name := range sortedKeys(c.Upstreams) {
		u, at := c.Upstreams[name], "upstreams."+name
		if name != AnyDomain {
			models.ValidateDomainID(at, name, v)
		}
		switch {
		case u.URL != "":
			checkURL(at+".url", u.URL, v)
		case u.Kind != "" && len(u.Headers) == 0 && u.Credential == "" && u.CredentialHeader == "":
			// Only says what kind the domain's upstream is, which somebody else may forward to.
		case name != AnyDomain || c.Upstream == "":
			v.Add(at+".url", "is required")
		}
		checkKind(at+".kind", u.Kind, v)
		for _, header := range sortedKeys(u.Headers) {
			if !httpguts.ValidHeaderFieldName(header) {
				v.Add(at+".headers", "%q is not a header name", header)
			}
			checkHeaderValue(at+".headers."+header, u.Headers[header], v)
		}
		if u.CredentialHeader != "" && !httpguts.ValidHeaderFieldName(u.CredentialHeader) {
			v.Add(at+".credential_header", "is not a header name")
		}
		if u.CredentialHeader != "" && u.Credential == "" {
			v.Add(at+".credential_header", "there is no credential to send in it")
		}
		checkHeaderValue(at+".credential", u.Credential, v)
	}
}

func checkKind(key, kind string, v *models.Invalid) {
	if !models.UpstreamKind(kind).Known() {
		v.Add(key, "%.40q is no kind of upstream: use %s, or nothing", kind, models.KindList())
	}
}

// encoded matches text that a URL reader would not take as it stands.
var encoded = regexp.MustCompile(`[?#]|%[0-9A-Fa-f]{2}`)

// checkFile refuses the URL of a SQLite file that does not exist and is written as
// if more than a path could stand there. Whoever wrote it would look for their data
// elsewhere.
func checkFile(key string, u URL, v *models.Invalid) {
	path, ok := strings.CutPrefix(string(u), "sqlite://")
	if !ok || !encoded.MatchString(path) {
		return
	}
	if _, err := os.Stat(path); err != nil {
		v.Add(key, "has the path of a file behind sqlite://, which is taken as it stands, without parameters (?, #) and percent-encoding (%%20); there is no such file")
	}
}

func (d Database) validate(v *models.Invalid) {
	scheme, rest, ok := strings.Cut(string(d.URL), "://")
	switch {
	case !ok || !slices.Contains([]string{"sqlite", "postgres", "postgresql"}, scheme):
		v.Add("database.url", "must start with sqlite:// or postgres://")
	case rest == "":
		v.Add("database.url", "names no database")
	}
	checkCount("database.max_conns", d.MaxConns, 0, v)
	if d.MaxConns > 0 && d.MaxConns < store.MinConns && !d.OnSQLite() {
		v.Add("database.max_conns", "must be at least %d with PostgreSQL, of which decisions, the change feed, lists and the decision log have shares; or 0", store.MinConns)
	}
	if listen, _, _ := strings.Cut(string(d.ListenURL), "://"); d.ListenURL != "" && (d.OnSQLite() || !slices.Contains([]string{"postgres", "postgresql"}, listen)) {
		v.Add("database.listen_url", "must start with postgres://, as database.url then does")
	}
	checkDuration("database.max_clock_behind", d.MaxBehind, 0, 0, v)
}

func (t TLS) validate(v *models.Invalid) {
	if t.CertFile != "" && t.KeyFile == "" {
		v.Add("tls.key_file", "is required with tls.cert_file")
	}
	if t.KeyFile != "" && t.CertFile == "" {
		v.Add("tls.cert_file", "is required with tls.key_file")
	}
	checkDuration("tls.reload_interval", t.ReloadInterval, time.Second, 0, v)
}

func (l Log) validate(v *models.Invalid) {
	checkOneOf("log.level", l.Level, []string{"debug", "info", "warn", "error"}, v)
	checkOneOf("log.format", l.Format, []string{"auto", "json", "text"}, v)
}

func (p Profiling) validate(v *models.Invalid) {
	if p.Listen == "" {
		return
	}
	checkAddress("profiling.listen", p.Listen, v)
	host, _, err := net.SplitHostPort(p.Listen)
	if ip := net.ParseIP(host); err == nil && !p.Public && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		v.Add("profiling.listen", "must be an address of this machine alone, such as 127.0.0.1:6060, or set profiling.public")
	}
}

func (m Metrics) validate(v *models.Invalid) {
	if m.Listen != "" {
		checkAddress("metrics.listen", m.Listen, v)
	}
}

func (m Memory) validate(v *models.Invalid) {
	if m.Headroom < 0 || m.Headroom > 1<<40 {
		v.Add("memory.headroom", "must be between 0 and 1024GiB")
	}
}

func (h HTTP) validate(v *models.Invalid) {
	checkDuration("http.read_header_timeout", h.ReadHeaderTimeout, 10*time.Millisecond, 0, v)
	checkDuration("http.read_timeout", h.ReadTimeout, 10*time.Millisecond, 0, v)
	checkDuration("http.idle_timeout", h.IdleTimeout, 10*time.Millisecond, 0, v)
	checkDuration("http.write_timeout", h.WriteTimeout, 10*time.Millisecond, 0, v)
	checkDuration("http.drain_delay", h.DrainDelay, 0, 0, v)
	checkDuration("http.shutdown_timeout", h.ShutdownTimeout, 10*time.Millisecond, 0, v)
	checkCount("http.max_connections", h.MaxConnections, 4, v)
	checkCount("http.max_in_flight", h.MaxInFlight, 4, v)
	if h.MaxHeader < 4<<10 || h.MaxHeader > 16<<20 {
		v.Add("http.max_header", "must be between 4KiB and 16MiB")
	}
}

func (t Tokens) validate(v *models.Invalid) {
	checkDuration("tokens.max_lifetime", t.MaxLifetime, time.Second, 0, v)
	checkCount("tokens.max_scopes", t.MaxScopes, 1, v)
	if t.MaxScopes > 64 {
		v.Add("tokens.max_scopes", "must be at most 64")
	}
	checkCount("tokens.max_live", t.MaxLive, 1, v)
	checkCount("tokens.max_allowed_ips", t.MaxIPs, 1, v)
	if t.MaxIPs > 256 {
		v.Add("tokens.max_allowed_ips", "must be at most 256")
	}
	checkCount("tokens.found_per_minute", t.FoundPerMinute, 1, v)
	checkDuration("tokens.purge_after", t.PurgeAfter, 0, 0, v)
	checkDuration("tokens.last_use_retention", t.LastUse, 0, 0, v)
	checkDuration("tokens.max_grace", t.MaxGrace, 0, 7*24*time.Hour, v)
}

func (a Audit) validate(v *models.Invalid) {
	if a.Retention != 0 && a.Retention < 24*time.Hour {
		v.Add("audit.retention", "must be 0 or at least 1d")
	}
}

func (s Sessions) validate(v *models.Invalid) {
	checkDuration("sessions.idle", s.Idle, time.Second, 0, v)
	checkDuration("sessions.lifetime", s.Lifetime, time.Second, 0, v)
	checkDuration("sessions.fresh_sign_in", s.FreshSignIn, time.Second, 0, v)
	checkDuration("sessions.fresh_admin", s.FreshAdmin, time.Second, 0, v)
	if s.Idle > s.Lifetime {
		v.Add("sessions.idle", "must not be longer than sessions.lifetime")
	}
}

// validate refuses argon2id parameters below OWASP's least: 19 MiB and two
// passes, or 7 MiB and five.
func (p Passwords) validate(v *models.Invalid) {
	checkCount("passwords.failures_per_address", p.FailuresPerAddress, 1, v)
	checkCount("passwords.failures_per_account", p.FailuresPerAccount, 1, v)
	checkCount("passwords.failures_per_network", p.FailuresPerNetwork, 1, v)
	checkCount("passwords.hashes_at_once", p.HashesAtOnce, 0, v)
	checkDuration("passwords.reset_valid_for", p.ResetValidFor, time.Minute, 7*24*time.Hour, v)
	if p.Memory < 7<<20 || p.Memory > 4<<30 {
		v.Add("passwords.memory", "must be between 7MiB and 4GiB")
	}
	if p.Iterations < 2 || p.Iterations > 100 {
		v.Add("passwords.iterations", "must be between 2 and 100")
	} else if int64(p.Memory)*int64(p.Iterations) < 5*7<<20 {
		v.Add("passwords.iterations", "must be at least 5 with so little memory")
	}
	if p.Lanes < 1 || p.Lanes > 255 {
		v.Add("passwords.lanes", "must be between 1 and 255")
	}
}

func (d Decisions) validate(v *models.Invalid) {
	checkDuration("decisions.cache_ttl", d.CacheTTL, time.Millisecond, 24*time.Hour, v)
	checkCount("decisions.cache_size", d.CacheSize, 1, v)
	checkDuration("decisions.poll_interval", d.PollInterval, time.Millisecond, 250*time.Millisecond, v)
	checkDuration("decisions.max_staleness", d.MaxStaleness, time.Millisecond, 0, v)
	checkDuration("decisions.lookup_timeout", d.LookupTimeout, time.Millisecond, 0, v)
	checkCount("decisions.max_lookups", d.MaxLookups, 2, v)
	checkCount("decisions.max_full", d.MaxFull, 1, v)
	checkCount("decisions.failures_per_minute", d.FailuresPerMin, 1, v)
	checkDuration("decisions.foreign_use_every", d.ForeignUse, time.Second, 0, v)
	if err := route.CheckVisible(d.Headers); err != nil {
		v.Add("decisions.headers", "%s", err)
	}
	checkDuration("decisions.record_wait", d.RecordWait, time.Millisecond, time.Minute, v)
	if d.MaxStaleness <= d.PollInterval {
		v.Add("decisions.max_staleness", "must be longer than decisions.poll_interval")
	}
}

func (g Gateway) validate(v *models.Invalid) {
	for _, s := range []struct {
		key  string
		size Size
	}{{"gateway.max_json_body", g.MaxJSONBody}, {"gateway.max_multipart_body", g.MaxMultipartBody}} {
		if s.size < 1<<10 {
			v.Add(s.key, "must be at least 1KiB")
		}
	}
	if g.BodyMemory < 1<<20 {
		v.Add("gateway.body_memory", "must be at least 1MiB")
	}
	if g.BodyDisk < 0 {
		v.Add("gateway.body_disk", "must not be negative")
	}
	if g.TokenShare < 1 || g.TokenShare > 100 {
		v.Add("gateway.token_share", "must be between 1 and 100 percent")
	}
	if g.MaxInFlight < 1 {
		v.Add("gateway.max_in_flight", "must be at least 1")
	}
	checkDuration("gateway.body_pause", g.BodyPause, time.Second, 0, v)
	checkDuration("gateway.body_timeout", g.BodyTimeout, time.Second, 0, v)
	checkDuration("gateway.dial_timeout", g.DialTimeout, 10*time.Millisecond, 0, v)
	checkDuration("gateway.header_timeout", g.HeaderTimeout, time.Second, 0, v)
	checkDuration("gateway.idle_timeout", g.IdleTimeout, time.Millisecond, 0, v)
	checkDuration("gateway.max_stream", g.MaxStream, time.Second, 0, v)
	for i, origin := range g.Origins {
		if problem := gateway.CheckOrigin(origin); problem != "" {
			v.Add(fmt.Sprintf("gateway.origins[%d]", i), "%s", problem)
		}
	}
	checkDuration("gateway.preflight_age", g.PreflightAge, 0, 0, v)
	if g.KeepAlive != 0 {
		checkDuration("gateway.keep_alive", g.KeepAlive, time.Second, 0, v)
	}
}

// checkAddress checks host:port. The host may be empty for all interfaces.
func checkAddress(key, address string, v *models.Invalid) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		v.Add(key, "must be an address such as 127.0.0.1:8080 or :8080")
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.Add(key, "the port must be a number from 0 to 65535")
	}
	if strings.ContainsAny(host, " /@?#") {
		v.Add(key, "the part before the port must be a host name or an IP address")
	}
}

// checkURL checks a base URL, and returns it if nothing is wrong.
func checkURL(key string, u URL, v *models.Invalid) (parsed *url.URL, ok bool) {
	parsed, err := url.Parse(u.Reveal()) // its error would repeat the URL
	switch {
	case err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		v.Add(key, "must be a URL that starts with http:// or https://")
	case parsed.RawQuery != "" || parsed.Fragment != "" || parsed.ForceQuery:
		v.Add(key, "must end with its path: no ? or #")
	case parsed.User != nil:
		v.Add(key, "must not hold a user name or password; an upstream's goes into its credential")
	default:
		return parsed, true
	}
	return nil, false
}

func checkHeaderValue(key string, value secret.Text, v *models.Invalid) {
	if !httpguts.ValidHeaderFieldValue(value.Reveal()) {
		v.Add(key, "has characters that no header can carry, such as a line break")
	}
}

// checkDuration checks that d is at least least and, if most is not 0, at most
// most.
func checkDuration(key string, d, least, most time.Duration, v *models.Invalid) {
	switch {
	case d < least:
		v.Add(key, "must be at least %s", formatDuration(least))
	case most != 0 && d > most:
		v.Add(key, "must be at most %s", formatDuration(most))
	}
}

func checkCount(key string, n, least int, v *models.Invalid) {
	if n < least {
		v.Add(key, "must be at least %d", least)
	}
}

func checkOneOf(key, value string, allowed []string, v *models.Invalid) {
	if !slices.Contains(allowed, value) {
		v.Add(key, "must be one of %s", strings.Join(allowed, ", "))
	}
}
