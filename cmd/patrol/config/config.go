package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patrol/internal/secret"
	"patrol/models"
)

// Config is everything that can be set. The settings at the top are the ones
// that most installations touch; each section below owns one part.
type Config struct {
	Listen         string              `key:"listen" flag:"listen" doc:"Address of the HTTP listener. Port 0 picks a free one; the log line 'listening' names it."`
	GRPCListen     string              `key:"grpc_listen" flag:"grpc-listen" doc:"Address of the gRPC service for Envoy. Port 0 picks a free one. Empty in the settings file: there is none. If something else is at the default address, the server starts without it and says so."`
	PublicURL      URL                 `key:"public_url" flag:"public-url" doc:"URL under which people reach this server, if not the listener's. With https it makes session cookies Secure."`
	DataDir        string              `key:"data_dir" flag:"data-dir" doc:"Folder for what this server keeps in files: the SQLite database and its token keys. Made on demand, for its owner only."`
	Policy         string              `key:"policy" flag:"policy" doc:"Policy bundle: a folder, a .tar.gz archive, or the https:// URL of one. It is followed: what changes there comes into force once it has passed the gate. Empty: the one inside the binary."`
	Upstream       URL                 `key:"upstream" flag:"upstream" doc:"Base URL of the service behind /proxy/<domain>/, for every domain that has no upstream of its own. The prefix is stripped."`
	UpstreamCred   secret.Text         `key:"upstream_credential" doc:"What the upstream is sent as Authorization, such as 'Bearer sk-…', in place of the caller's token."`
	UpstreamKind   string              `key:"upstream_kind" flag:"upstream-kind" doc:"What kind of service the upstream is, which says when two spellings are one model's name: openai, vllm, litellm or ollama. It holds for every domain that is not in upstreams, for whoever forwards its requests. Empty: names are compared byte for byte."`
	Upstreams      map[string]Upstream `key:"upstreams" doc:"Upstreams by domain; see below."`
	TokenKeys      secret.Text         `key:"token_keys" doc:"Keys that tokens are hashed with: id:base64 of at least 32 random bytes, several separated by commas, the current one first; or the path of a file with them. Required with PostgreSQL. With SQLite a key is made in the data folder if there is none and no token yet."`
	OpenFiles      bool                `key:"accept_open_files" doc:"Go on although every user of this machine can write a file that holds secrets or must not be forged: token keys, tombstones, a backup, a database, the settings. If others can only read such a file, the log warns of it either way."`
	TrustedProxies []string            `key:"trusted_proxies" doc:"Addresses or networks of the proxies in front, whose X-Forwarded-For is believed. Empty: nobody's."`
	TrustedCallers []string            `key:"trusted_callers" doc:"Addresses or networks of services that ask /authorize for others and whose client (ip, user_agent) is believed. Empty: nobody's, and the client is who asks."`
	Database       Database            `key:"database" doc:"The database."`
	TLS            TLS                 `key:"tls" doc:"HTTPS on the listener. Certificates are read again when their files change."`
	Log            Log                 `key:"log" doc:"The log, on standard error."`
	Metrics        Metrics             `key:"metrics" doc:"Prometheus metrics."`
	Profiling      Profiling           `key:"profiling" doc:"Profiles of the running server, for those who look for what costs time or memory."`
	Memory         Memory              `key:"memory" doc:"Memory of the server."`
	HTTP           HTTP                `key:"http" doc:"Limits of the HTTP listener."`
	Tokens         Tokens              `key:"tokens" doc:"What a token may be."`
	Tombstones     Tombstones          `key:"tombstones" doc:"What was taken away, kept apart from the database so that no restore gives it back; see operations.md."`
	Sessions       Sessions            `key:"sessions" doc:"How long a sign-in lasts."`
	Audit          Audit               `key:"audit" doc:"The log of who did what."`
	Passwords      Passwords           `key:"passwords" doc:"Guessing at passwords, and what one guess costs."`
	Domains        Domains             `key:"domains" doc:"What admins of domains may do."`
	OIDC           OIDC                `key:"oidc" doc:"Sign-in at an OpenID Connect provider, beside passwords; see sign-in.md."`
	Decisions      Decisions           `key:"decisions" doc:"How decisions are made: caching and look-ups."`
	DecisionLog    DecisionLog         `key:"decision_log" doc:"What is kept of decisions, and where; see decision-log.md."`
	Bundle         Bundle              `key:"bundle" doc:"Where the policy comes from, and who may fetch it here; see policy-delivery.md."`
	Gate           Gate                `key:"gate" doc:"What a policy must be to come into force; see policy-delivery.md."`
	Shadow         Shadow              `key:"shadow" doc:"A policy that is judged beside the one in force, to see what it would change; see policy-delivery.md."`
	Playground     Playground          `key:"playground" doc:"Where the policy team tries changes to a copy of the policy in force, in processes of their own; see policy-delivery.md."`
	Gateway        Gateway             `key:"gateway" doc:"The built-in proxy under /proxy/<domain>/."`
	ExtAuthz       ExtAuthz            `key:"extauthz" doc:"The gRPC service for Envoy, on grpc_listen; see envoy.md."`
	AuthZEN        AuthZEN             `key:"authzen" doc:"Questions in the form of OpenID AuthZEN, at /access/v1; see authzen.md."`
	ForwardAuth    ForwardAuth         `key:"forward_auth" doc:"Proxies that ask over HTTP at /forward-auth: who may, and how they ask; see forward-auth.md. An address can be in one list."`

	// keyringFile is the file that token_keys_file (PATROL_TOKEN_KEYS_FILE) named.
	keyringFile string
	// read are the files that secrets came from, and settingsFile is the one that
	// settings came from.
	read         []string
	settingsFile string
}

// Upstream is a service behind the gateway.
type Upstream struct {
	URL              URL
	Kind             string                 // of service; see models.UpstreamKind
	Headers          map[string]secret.Text // set on every request; masked, because they often hold keys
	Credential       secret.Text
	CredentialHeader string // where Credential goes; Authorization if empty

	credentialFile string // that Credential came from
}

// AnyDomain is the key in Upstreams of what every domain without an upstream of
// its own gets.
const AnyDomain = "*"

// Database holds everything that is stored.
type Database struct {
	URL       URL           `key:"url" flag:"database-url" default:"sqlite://<data dir>/patrol.db" doc:"Database: sqlite://<path> or postgres://user:password@host/name. A password is masked wherever the URL is shown."`
	ListenURL URL           `key:"listen_url" doc:"Where to hear of others' changes if url leads to a pooler, such as PgBouncer, that lends connections for a transaction each: PostgreSQL itself. Empty: they are found within decisions.poll_interval there."`
	MaxConns  int           `key:"max_conns" doc:"Most connections of this server to PostgreSQL, at least 10: a fifth is for the decision log, four are for the change feed, and of the rest a quarter is for lists, half of what is left for decisions. 0: 20. With SQLite: connections that read; 0: one for each CPU, at least 4."`
	MaxBehind time.Duration `key:"max_clock_behind" doc:"The server does not start if its clock is this far behind the newest event in the database: tokens that expired would be good again. 0: it does."`
	Migrate   bool          `key:"migrate" doc:"Bring the schema up to date at the start, under a lock. If false, an old schema is refused until patrol migrate has run."`
}

// TLS is HTTPS on the listener.
type TLS struct {
	CertFile       string        `key:"cert_file" flag:"tls-cert-file" doc:"PEM file with the certificate and its chain."`
	KeyFile        string        `key:"key_file" flag:"tls-key-file" doc:"PEM file with the certificate's private key."`
	ReloadInterval time.Duration `key:"reload_interval" doc:"How often the files are looked at."`
}

// Log sets the level and format of the log.
type Log struct {
	Level  string `key:"level" flag:"log-level" doc:"Least level that is logged: debug, info, warn or error."`
	Format string `key:"format" flag:"log-format" doc:"json, text, or auto: text on a terminal, else json."`
}

// Metrics sets the address of the metrics for Prometheus.
type Metrics struct {
	Listen string `key:"listen" flag:"metrics-listen" doc:"Address of a listener for /metrics alone. Empty: /metrics is on the main listener, for programs on this machine."`
	Public bool   `key:"public" doc:"Answer /metrics on the main listener to whoever asks, also through a proxy."`
}

// Profiling sets the address of Go's profiles.
type Profiling struct {
	Listen string `key:"listen" doc:"Address of a listener for Go's profiles (pprof), on this machine unless public is set. Empty: there is none."`
	Public bool   `key:"public" doc:"Let the address be one that other machines reach. Whoever does can have the server spend time on profiles, and see how it works."`
}

// Memory is the memory that the server may use to save CPU.
type Memory struct {
	Headroom Size `key:"headroom" doc:"How much is allocated before garbage is collected: on a busy server, more of it costs less CPU. The server uses about this much more than it keeps. 0, or GOGC in the environment: as the Go runtime does it. GOMEMLIMIT bounds it either way."`
}

// HTTP bounds what clients may ask of the listener.
type HTTP struct {
	ReadHeaderTimeout     time.Duration `key:"read_header_timeout" doc:"Time for a client to send its request's header."`
	ReadTimeout           time.Duration `key:"read_timeout" doc:"Time for a client to send a request to the API, body included. Proxied requests are not cut by it."`
	WriteTimeout          time.Duration `key:"write_timeout" doc:"Time for an answer of the API to be written. Proxied streams are not cut by it."`
	IdleTimeout           time.Duration `key:"idle_timeout" doc:"Time that an idle connection is kept."`
	MaxHeader             Size          `key:"max_header" doc:"Largest request line and header."`
	MaxConnections        int           `key:"max_connections" doc:"Most connections at a time, and again on the listener of the metrics. A new one takes the place of the oldest idle one of the network (IPv6: a /64) that has the most. One network has three quarters of the places at most. Keep it below the process's limit of open files."`
	MaxInFlight           int           `key:"max_in_flight" doc:"Most calls of /authorize that are judged at a time, a batch as one, and again most requests of other kinds; health is always answered. More get 503. A quarter is for tokens that have verified here; of other kinds one address has three quarters."`
	HSTSIncludeSubdomains bool          `key:"hsts_include_subdomains" doc:"Where Patrol is reached over https, the header that keeps browsers on https speaks for the hosts below its own, too."`
	DrainDelay            time.Duration `key:"drain_delay" doc:"How long everything is still served after /readyz has announced the end, unless nobody is connected any more; longer than the interval of health checks."`
	ShutdownTimeout       time.Duration `key:"shutdown_timeout" doc:"Time for what is in flight to finish after that."`
}

// Tokens bounds what a PAT may be.
type Tokens struct {
	MaxLifetime time.Duration `key:"max_lifetime" doc:"Longest life of a token, enforced when it is made and whenever it is used."`
	MaxScopes   int           `key:"max_scopes" doc:"Most scopes of one token."`
	MaxLive     int           `key:"max_live" doc:"Most live tokens of one user."`
	MaxIPs      int           `key:"max_allowed_ips" doc:"Most addresses and ranges that one token may be used from, in its allowed_ips."`
	PurgeAfter  time.Duration `key:"purge_after" doc:"How long the record of a token is kept after the token died. 0: until its owner or a platform admin removes it. Until then its key cannot leave the key ring, unless it is retired."`
	LastUse     time.Duration `key:"last_use_retention" doc:"How long it is kept when, from where and with which program a token was used last. 0: as long as its record."`
	// FoundPerMinute bounds reports of found tokens.
	FoundPerMinute int           `key:"found_per_minute" doc:"How many reports of found tokens (POST /api/v1/credentials/revoke) are taken from one address in a minute."`
	MaxGrace       time.Duration `key:"max_grace" doc:"Longest time that a token may live on after its rotation."`
}

// Tombstones is the file that records what was taken away.
type Tombstones struct {
	Path string `key:"path" flag:"tombstones" default:"<database file>-tombstones with SQLite, none with PostgreSQL" doc:"File of this server alone to which each revocation, and whatever else takes something away, is written before it is answered. none: nothing is written."`
}

// Sessions is the time that a sign-in lasts.
type Sessions struct {
	Idle        time.Duration `key:"idle" doc:"A session ends after this long without a request."`
	Lifetime    time.Duration `key:"lifetime" doc:"A session ends this long after sign-in, whatever happens."`
	FreshSignIn time.Duration `key:"fresh_sign_in" doc:"Creating, rotating or widening a token needs a password entered within this time."`
	FreshAdmin  time.Duration `key:"fresh_admin" doc:"What widens anybody's power or removes a protection needs a sign-in within this time: accounts, roles, limits, approvals, the policy in force."`
}

// Audit sets the retention of the audit log.
type Audit struct {
	Retention time.Duration `key:"retention" doc:"How long events of the audit log are kept, at least 1d. 0: for good. What was removed is no evidence any more."`
}

// Domains is about their admins.
type Domains struct {
	Lookups int `key:"lookups_per_minute" doc:"How many people one admin of a domain may look up by their email address in a minute, to make them members."`
}

func (d Domains) validate(v *models.Invalid) {
	if d.Lookups < 1 {
		v.Add("domains.lookups_per_minute", "must be at least 1")
	}
}

// Passwords is about guessing at them.
type Passwords struct {
	FailuresPerAddress int           `key:"failures_per_address" doc:"Failed sign-ins a minute for one account from one address (IPv6: one /64)."`
	FailuresPerAccount int           `key:"failures_per_account" doc:"Failed sign-ins an hour for one account, from everywhere."`
	FailuresPerNetwork int           `key:"failures_per_network" doc:"Failed sign-ins a minute from one address (IPv6: one /64), over all accounts that do not know it."`
	HashesAtOnce       int           `key:"hashes_at_once" doc:"Passwords that are hashed at a time; others wait. 0: half of the processors, so that decisions have the rest."`
	ResetValidFor      time.Duration `key:"reset_valid_for" doc:"How long a link is good with which somebody who forgot a password chooses a new one, or confirms another address."`
	Memory             Size          `key:"memory" doc:"Memory of one argon2id hash."`
	Iterations         int           `key:"iterations" doc:"Passes of argon2id over its memory."`
	Lanes              int           `key:"lanes" doc:"Threads of one argon2id hash."`
}

// Decisions is about the facts that decisions are made on.
type Decisions struct {
	CacheTTL       time.Duration `key:"cache_ttl" doc:"Longest time that a fact is cached; at most 24h. Changes drop it at once, and where they cannot be learned of, nothing that is cached counts after max_staleness."`
	CacheSize      int           `key:"cache_size" doc:"Most cached records of each kind."`
	PollInterval   time.Duration `key:"poll_interval" doc:"How often changes by other processes are looked for; at most 250ms."`
	MaxStaleness   time.Duration `key:"max_staleness" doc:"After this long without a look at the changes the cache is no longer trusted."`
	LookupTimeout  time.Duration `key:"lookup_timeout" doc:"Time for one look-up in the database."`
	MaxLookups     int           `key:"max_lookups" doc:"Most concurrent look-ups of ids that never verified here."`
	MaxFull        int           `key:"max_full" doc:"Most decisions at a time whose facts are read from the database whatever is cached, as consistency full asks for; others wait."`
	ForeignUse     time.Duration `key:"foreign_use_every" doc:"How often at most the audit log notes that a token was refused because of the client's address, per token: pat.ip_forbidden."`
	FailuresPerMin int           `key:"failures_per_minute" doc:"Failed tokens per address and minute before the address is slowed down."`
	Headers        []string      `key:"headers" doc:"Headers of proxied requests that policies of decisions see as input.http.headers, such as x-request-source; at most 32. What carries a credential or a cookie cannot be seen."`
	Required       bool          `key:"required" doc:"No record, no allowance: what would be allowed waits until the decision log has it, on disk, and is denied as unavailable if that fails."`
	RecordWait     time.Duration `key:"record_wait" doc:"How long an allowance waits for its record, if required."`
}

// Gateway is the built-in proxy.
type Gateway struct {
	MaxJSONBody      Size          `key:"max_json_body" doc:"Largest JSON body on a route whose model name stands in the body."`
	MaxMultipartBody Size          `key:"max_multipart_body" doc:"Largest multipart body on such a route; spooled to disk."`
	BodyTimeout      time.Duration `key:"body_timeout" doc:"Time for a client to send such a body."`
	BodyPause        time.Duration `key:"body_pause" doc:"Longest time that it may send nothing of it."`
	BodyMemory       Size          `key:"body_memory" doc:"Memory for all such bodies together, from their first byte until they were sent on and the upstream answers. Those over 1MiB, and those that it has no room for, go to disk. Where waiting for them alone fills it: 503."`
	BodyDisk         Size          `key:"body_disk" doc:"Disk for all such bodies together; one of the largest size has room at least. Beyond it: 503."`
	BodyDir          string        `key:"body_dir" default:"the system's" doc:"Folder for bodies on disk. In a container whose /tmp is memory, name another."`
	TokenShare       int           `key:"token_share" doc:"How much of either the bodies of one token may take, in percent. Beyond it: 429."`
	MaxInFlight      int           `key:"max_in_flight" doc:"Most requests under way at a time, streams included. More get 503. One token has three quarters at most, beyond which it gets 429, and tokens that have not verified here have as many together."`
	DialTimeout      time.Duration `key:"dial_timeout" doc:"Time to connect to an upstream, and again to set TLS up."`
	HeaderTimeout    time.Duration `key:"header_timeout" doc:"Time for an upstream to begin its answer. Models that do not stream answer late."`
	IdleTimeout      time.Duration `key:"idle_timeout" doc:"How long an unused connection to an upstream is kept. Set it below the time after which the upstream closes one: many Python servers do so after 5 s."`
	MaxStream        time.Duration `key:"max_stream" doc:"Longest life of one proxied request, streams included."`
	APIKeyHeaders    bool          `key:"api_key_headers" doc:"Take the token also from x-api-key, api-key and x-goog-api-key, and from the sub-protocol openai-insecure-api-key of a WebSocket. Only what begins with patrol_ counts there."`
	Origins          []string      `key:"origins" doc:"Web origins whose scripts may read answers (CORS), such as https://chat.example.com. *: every origin; scripts need a token all the same. Empty: none."`
	PreflightAge     time.Duration `key:"preflight_age" doc:"How long a browser may remember that a script may ask."`
	KeepAlive        time.Duration `key:"keep_alive" doc:"Silence of an event stream after which a comment is sent to the client, so that nothing on the way takes the connection for a dead one. 0: never."`
}

// Default returns the settings that hold unless something else is said.
func Default() Config {
	limits := models.DefaultLimits()
	return Config{
		Listen:     "127.0.0.1:8080",
		GRPCListen: "127.0.0.1:9191",
		DataDir:    "./data",
		Database:   Database{Migrate: true, MaxBehind: 10 * time.Minute},
		TLS:        TLS{ReloadInterval: 10 * time.Second},
		Log:        Log{Level: "info", Format: "auto"},
		Memory:     Memory{Headroom: 32 << 20},
		HTTP: HTTP{
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeader:         32 << 10,
			MaxConnections:    16384,
			MaxInFlight:       1024,
			DrainDelay:        5 * time.Second,
			ShutdownTimeout:   30 * time.Second,
		},
		Tokens: Tokens{
			FoundPerMinute: 20,
			MaxLifetime:    limits.MaxLifetime,
			MaxScopes:      limits.MaxScopes,
			MaxLive:        limits.MaxLive,
			MaxIPs:         limits.MaxAllowedIPs,
			MaxGrace:       limits.MaxGrace,
		},
		Sessions:  Sessions{Idle: 12 * time.Hour, Lifetime: 7 * 24 * time.Hour, FreshSignIn: 10 * time.Minute, FreshAdmin: time.Hour},
		Passwords: Passwords{FailuresPerAddress: 5, FailuresPerAccount: 100, FailuresPerNetwork: 50, ResetValidFor: 24 * time.Hour, Memory: 19 << 20, Iterations: 2, Lanes: 1},
		OIDC:      defaultOIDC(),
		Domains:   Domains{Lookups: 20},
		Decisions: Decisions{
			CacheTTL:       time.Hour,
			CacheSize:      100_000,
			PollInterval:   200 * time.Millisecond,
			MaxStaleness:   5 * time.Second,
			LookupTimeout:  2 * time.Second,
			MaxLookups:     32,
			MaxFull:        8,
			FailuresPerMin: 60,
			ForeignUse:     time.Hour,
			RecordWait:     2 * time.Second,
		},
		DecisionLog: defaultDecisionLog(),
		Bundle:      defaultBundle(),
		Gate:        defaultGate(),
		Shadow:      defaultShadow(),
		Playground:  defaultPlayground(),
		ExtAuthz:    defaultExtAuthz(),
		ForwardAuth: defaultForwardAuth(),
		Gateway: Gateway{
			MaxJSONBody:      16 << 20,
			MaxMultipartBody: 64 << 20,
			BodyTimeout:      5 * time.Minute,
			BodyPause:        30 * time.Second,
			BodyMemory:       64 << 20,
			BodyDisk:         2 << 30,
			TokenShare:       25,
			MaxInFlight:      4096,
			DialTimeout:      10 * time.Second,
			HeaderTimeout:    10 * time.Minute,
			IdleTimeout:      4 * time.Second,
			MaxStream:        time.Hour,
			APIKeyHeaders:    true,
			PreflightAge:     10 * time.Minute,
		},
	}
}

// Limits returns the bounds on tokens as the domain knows them.
func (t Tokens) Limits() models.Limits {
	return models.Limits{MaxLifetime: t.MaxLifetime, MaxScopes: t.MaxScopes, MaxLive: t.MaxLive, MaxGrace: t.MaxGrace, MaxAllowedIPs: t.MaxIPs}
}

// SQLiteIn returns the URL of the database in a data folder.
func SQLiteIn(dir string) URL { return URL("sqlite://" + filepath.Join(dir, "patrol.db")) }

// OnSQLite reports whether the database is a file of this machine.
func (d Database) OnSQLite() bool { return strings.HasPrefix(string(d.URL), "sqlite:") }

// SQLitePath returns the path of the database file, "" with PostgreSQL.
func (d Database) SQLitePath() string {
	if !d.OnSQLite() {
		return ""
	}
	return strings.TrimPrefix(d.URL.Reveal(), "sqlite://")
}

// TombstonesPath returns where tombstones are kept, "" if nowhere.
func (c Config) TombstonesPath() string {
	switch {
	case c.Tombstones.Path == "none":
		return ""
	case c.Tombstones.Path != "":
		return c.Tombstones.Path
	case c.Database.OnSQLite():
		return c.Database.SQLitePath() + "-tombstones"
	}
	return ""
}

// SettingsFile returns the file that settings came from, "" if there was none.
func (c Config) SettingsFile() string { return c.settingsFile }

// PrivateFiles returns the files that are nobody else's: those that secrets come from,
// keys of certificates, the database and the tombstones. Not all of them need be there.
func (c Config) PrivateFiles() []string {
	files := append(slices.Clone(c.read), c.TLS.KeyFile, c.ExtAuthz.KeyFile, c.Database.SQLitePath(), c.TombstonesPath())
	if path, ok := c.KeyringFile(); ok {
		files = append(files, path)
	}
	for _, domain := range slices.Sorted(maps.Keys(c.Upstreams)) {
		files = append(files, c.Upstreams[domain].credentialFile)
	}
	slices.Sort(files)
	return slices.DeleteFunc(slices.Compact(files), func(path string) bool { return path == "" })
}

// AllUpstreams returns the upstreams by domain, with [AnyDomain] for the rest:
// `upstreams` with `upstream` and `upstream_credential` in their place. What has no
// URL only says the kind of a domain's upstream and is not among them.
func (c Config) AllUpstreams() map[string]Upstream {
	all := map[string]Upstream{}
	for domain, u := range c.Upstreams {
		if u.URL != "" || domain == AnyDomain {
			all[domain] = u
		}
	}
	rest := all[AnyDomain]
	if c.Upstream != "" {
		rest.URL = c.Upstream
	}
	if c.UpstreamCred != "" {
		rest.Credential = c.UpstreamCred
	}
	delete(all, AnyDomain)
	if rest.URL != "" {
		all[AnyDomain] = rest
	}
	return all
}

// DomainKinds returns the kinds of upstreams by domain. A domain that has an entry
// in `upstreams` has the kind that stands there, or none.
func (c Config) DomainKinds() models.DomainKinds {
	kinds := models.DomainKinds{}
	for domain, u := range c.Upstreams {
		kinds[domain] = models.UpstreamKind(u.Kind)
	}
	if c.UpstreamKind != "" {
		kinds[AnyDomain] = models.UpstreamKind(c.UpstreamKind)
	}
	return kinds
}
