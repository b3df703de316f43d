package config

import (
	"net/netip"
	"time"

	"patrol/models"
	"patrol/server/extauthz"
	"patrol/server/forwardauth"
)

// ExtAuthz is the gRPC service for Envoy.
type ExtAuthz struct {
	CertFile         string        `key:"cert_file" doc:"PEM file with the certificate of the gRPC listener and its chain. Empty: no TLS. Read again when it changes, as are the two below."`
	KeyFile          string        `key:"key_file" doc:"PEM file with the certificate's private key."`
	ClientCAFile     string        `key:"client_ca_file" doc:"PEM file with the authorities, one of which must have signed the certificate that a client shows (mTLS). Empty: clients show none."`
	Timeout          time.Duration `key:"timeout" doc:"Longest time for an answer; what is not decided by then is denied. Must be shorter than Envoy's own."`
	Margin           time.Duration `key:"margin" doc:"How long before Envoy's deadline it is answered, if that comes before the timeout."`
	MaxInFlight      int           `key:"max_in_flight" doc:"Most requests that are judged at a time; more are denied."`
	MaxMessage       Size          `key:"max_message" doc:"Largest message; above Envoy's max_request_bytes by the size of a request's head."`
	MaxReceiving     Size          `key:"max_receiving" doc:"Memory for all messages that arrive or are judged; one of the largest size has room at least. Where it ends, those that have sent nothing for longest are denied."`
	ReceiveTimeout   time.Duration `key:"receive_timeout" doc:"Time for a message to arrive; then it is denied."`
	MaxConnections   int           `key:"max_connections" doc:"Most connections at a time. One network (IPv6: a /64) has three quarters of them at most; beyond that, a new one takes the place of one that has sent nothing, or is closed."`
	MaxStreams       int           `key:"max_streams" doc:"Most requests under way on one connection."`
	RemoveHeaders    []string      `key:"remove_headers" doc:"Headers that Envoy is told to take from allowed requests, besides those in Patrol's own name."`
	KeepHeaders      []string      `key:"keep_headers" doc:"Headers in which other proxies tell who is calling, such as x-forwarded-email, that allowed requests keep because a filter of Envoy before Patrol's sets them. All others are taken out."`
	APIKeyHeaders    bool          `key:"api_key_headers" doc:"Take the token also from x-api-key, api-key and x-goog-api-key, and from the sub-protocol openai-insecure-api-key of a WebSocket, and have Envoy remove it. Only what begins with patrol_ counts there."`
	TrustedProxies   []string      `key:"trusted_proxies" doc:"Addresses or networks in front of Envoy, whose X-Forwarded-For is believed. Empty: the client is who Envoy says."`
	DryRun           bool          `key:"dry_run" doc:"Allow everything, and record what would have been denied."`
	RouteDryRun      bool          `key:"route_dry_run" doc:"Permit routes of Envoy a dry run of their own (context extension patrol.dry_run)."`
	Reflection       bool          `key:"reflection" doc:"Describe the service to grpcurl and the like."`
	KeepaliveTime    time.Duration `key:"keepalive_time" doc:"Silence after which a client is pinged."`
	KeepaliveTimeout time.Duration `key:"keepalive_timeout" doc:"Time for the answer to that; then the connection is closed."`
	MinClientPing    time.Duration `key:"min_client_ping" doc:"Least time between two pings of a client."`
	MaxConnectionAge time.Duration `key:"max_connection_age" doc:"Connections are made anew this often, so that load spreads to new replicas. 0: never."`
	DrainDelay       time.Duration `key:"drain_delay" doc:"How long everything is still served after the health service has announced the end, unless nobody is connected any more; longer than the interval of Envoy's health checks."`
	DrainTimeout     time.Duration `key:"drain_timeout" doc:"Time for what is in flight to finish after that."`
}

// ForwardAuth sets which proxies may ask over HTTP, and in which form.
type ForwardAuth struct {
	Envoy           []string      `key:"envoy" doc:"Addresses or networks of Envoys that ask with ext_authz and http_service."`
	Nginx           []string      `key:"nginx" doc:"The same of nginx with auth_request."`
	Traefik         []string      `key:"traefik" doc:"The same of Traefik with forwardAuth."`
	Caddy           []string      `key:"caddy" doc:"The same of Caddy with forward_auth."`
	HAProxy         []string      `key:"haproxy" doc:"The same of HAProxy with a script."`
	Timeout         time.Duration `key:"timeout" doc:"Longest time for an answer; what is not decided by then is denied. Must be shorter than the proxy's own."`
	MaxInFlight     int           `key:"max_in_flight" doc:"Most requests that are judged at a time; more are denied."`
	MaxBody         Size          `key:"max_body" doc:"Largest body that Envoy may send."`
	MaxReceiving    Size          `key:"max_receiving" doc:"Memory for all bodies that are looked at; one of the largest size has room at least. More are denied."`
	EnvoyNoDecision int           `key:"envoy_no_decision" doc:"Status with which Envoy is told that nothing could be decided. It takes 5xx for a failure and lets the request pass if failure_mode_allow is true."`
	RemoveHeaders   []string      `key:"remove_headers" doc:"Headers that Envoy is told to take from allowed requests, besides those in Patrol's own name."`
	KeepHeaders     []string      `key:"keep_headers" doc:"Headers in which other proxies tell who is calling, such as x-forwarded-email, that allowed requests keep because a filter of Envoy before Patrol's sets them. All others are taken out."`
	APIKeyHeaders   []string      `key:"api_key_headers" doc:"Kinds of proxies (envoy, nginx, traefik, caddy, haproxy) whose clients may send the token in x-api-key, api-key or x-goog-api-key as well. Envoy is told to remove it; the configuration of the others must remove these headers."`
}

func defaultExtAuthz() ExtAuthz {
	d := extauthz.DefaultConfig()
	return ExtAuthz{
		Timeout: d.Timeout, Margin: d.Margin, MaxInFlight: d.MaxInFlight, MaxMessage: Size(d.MaxMessageBytes),
		MaxReceiving: Size(d.MaxReceiving), ReceiveTimeout: d.ReceiveTimeout, MaxConnections: d.MaxConnections, MaxStreams: d.MaxStreams, RemoveHeaders: d.RemoveHeaders, APIKeyHeaders: d.KeyHeaders,
		KeepaliveTime: d.Keepalive.Time, KeepaliveTimeout: d.Keepalive.Timeout, MinClientPing: d.Keepalive.MinClientTime,
		MaxConnectionAge: d.Keepalive.MaxConnectionAge, DrainDelay: d.DrainDelay, DrainTimeout: d.DrainTimeout,
	}
}

func defaultForwardAuth() ForwardAuth {
	d := forwardauth.DefaultConfig()
	return ForwardAuth{
		Timeout: d.Timeout, MaxInFlight: d.MaxInFlight, MaxBody: Size(d.MaxBodyBytes), MaxReceiving: Size(d.MaxReceiving),
		EnvoyNoDecision: d.EnvoyUnavailable, RemoveHeaders: d.RemoveHeaders, APIKeyHeaders: []string{string(forwardauth.Envoy)},
	}
}

// ExtAuthzConfig translates the settings for the gRPC service.
func (c Config) ExtAuthzConfig() extauthz.Config {
	e := c.ExtAuthz
	return extauthz.Config{
		Listen:  c.GRPCListen,
		TLS:     extauthz.TLSConfig{CertFile: e.CertFile, KeyFile: e.KeyFile, ClientCAFile: e.ClientCAFile, ReloadInterval: c.TLS.ReloadInterval},
		Timeout: e.Timeout, Margin: e.Margin, MaxInFlight: e.MaxInFlight, MaxMessageBytes: int(e.MaxMessage),
		MaxReceiving: int64(e.MaxReceiving), ReceiveTimeout: e.ReceiveTimeout, MaxConnections: e.MaxConnections, MaxStreams: e.MaxStreams,
		RemoveHeaders: e.RemoveHeaders, KeepHeaders: e.KeepHeaders, KeyHeaders: e.APIKeyHeaders, TrustedProxies: e.TrustedProxies, DryRun: e.DryRun, RouteDryRun: e.RouteDryRun, Reflection: e.Reflection,
		Keepalive: extauthz.KeepaliveConfig{
			Time: e.KeepaliveTime, Timeout: e.KeepaliveTimeout, MinClientTime: e.MinClientPing, MaxConnectionAge: e.MaxConnectionAge,
		},
		DrainDelay: e.DrainDelay, DrainTimeout: e.DrainTimeout,
	}
}

// ForwardAuthConfig translates the settings for proxies that ask over HTTP.
func (c Config) ForwardAuthConfig() forwardauth.Config {
	f := c.ForwardAuth
	var keyed []forwardauth.Dialect
	for _, kind := range f.APIKeyHeaders {
		keyed = append(keyed, forwardauth.Dialect(kind))
	}
	return forwardauth.Config{
		Peers: map[forwardauth.Dialect][]string{
			forwardauth.Envoy: f.Envoy, forwardauth.Nginx: f.Nginx, forwardauth.Traefik: f.Traefik, forwardauth.Caddy: f.Caddy, forwardauth.HAProxy: f.HAProxy,
		},
		Timeout: f.Timeout, MaxInFlight: f.MaxInFlight, MaxBodyBytes: int64(f.MaxBody), MaxReceiving: int64(f.MaxReceiving), EnvoyUnavailable: f.EnvoyNoDecision, RemoveHeaders: f.RemoveHeaders, KeepHeaders: f.KeepHeaders, KeyHeaders: keyed,
	}
}

func (e ExtAuthz) validate(v *models.Invalid) {
	if e.CertFile != "" && e.KeyFile == "" {
		v.Add("extauthz.key_file", "is required with extauthz.cert_file")
	}
	if e.KeyFile != "" && e.CertFile == "" {
		v.Add("extauthz.cert_file", "is required with extauthz.key_file")
	}
	if e.ClientCAFile != "" && e.CertFile == "" {
		v.Add("extauthz.client_ca_file", "clients can show certificates only over TLS: set extauthz.cert_file")
	}
	checkDuration("extauthz.timeout", e.Timeout, 5*time.Millisecond, 0, v)
	checkDuration("extauthz.margin", e.Margin, 0, 0, v)
	checkCount("extauthz.max_in_flight", e.MaxInFlight, 1, v)
	if e.MaxMessage < 64<<10 || e.MaxMessage > 256<<20 {
		v.Add("extauthz.max_message", "must be between 64KiB and 256MiB")
	}
	if e.MaxReceiving < 1<<20 {
		v.Add("extauthz.max_receiving", "must be at least 1MiB")
	}
	checkDuration("extauthz.receive_timeout", e.ReceiveTimeout, 10*time.Millisecond, 0, v)
	checkCount("extauthz.max_connections", e.MaxConnections, 4, v)
	checkCount("extauthz.max_streams", e.MaxStreams, 1, v)
	if e.MaxStreams > 1<<20 {
		v.Add("extauthz.max_streams", "must be at most %d", 1<<20)
	}
	checkNetworks("extauthz.trusted_proxies", e.TrustedProxies, v)
	checkDuration("extauthz.keepalive_time", e.KeepaliveTime, time.Second, 0, v)
	checkDuration("extauthz.keepalive_timeout", e.KeepaliveTimeout, time.Millisecond, 0, v)
	checkDuration("extauthz.min_client_ping", e.MinClientPing, 0, 0, v)
	checkDuration("extauthz.max_connection_age", e.MaxConnectionAge, 0, 0, v)
	checkDuration("extauthz.drain_delay", e.DrainDelay, 0, 0, v)
	checkDuration("extauthz.drain_timeout", e.DrainTimeout, time.Millisecond, 0, v)
}

// AuthZEN has the settings of questions in the form of OpenID AuthZEN.
type AuthZEN struct {
	Domain string `key:"domain" doc:"Domain of resources that come without properties.domain. Empty: they are refused."`
}

func (a AuthZEN) validate(v *models.Invalid) {
	if a.Domain != "" {
		models.ValidateDomainID("authzen.domain", a.Domain, v)
	}
}

func (f ForwardAuth) validate(v *models.Invalid) {
	if f.MaxReceiving < 1<<20 {
		v.Add("forward_auth.max_receiving", "must be at least 1MiB")
	}
	for _, peers := range []struct {
		key   string
		value []string
	}{{"envoy", f.Envoy}, {"nginx", f.Nginx}, {"traefik", f.Traefik}, {"caddy", f.Caddy}, {"haproxy", f.HAProxy}} {
		checkNetworks("forward_auth."+peers.key, peers.value, v)
	}
	checkDuration("forward_auth.timeout", f.Timeout, 5*time.Millisecond, 0, v)
	checkCount("forward_auth.max_in_flight", f.MaxInFlight, 1, v)
	if f.MaxBody < 1 {
		v.Add("forward_auth.max_body", "must be at least 1")
	}
	if s := f.EnvoyNoDecision; s != 503 && (s < 400 || s > 499) {
		v.Add("forward_auth.envoy_no_decision", "must be 400 to 499, or 503")
	}
}

// validateProxies adds what the sections cannot see by themselves, such as two
// dialects for one address.
func (c Config) validateProxies(v *models.Invalid) {
	if v.Err() != nil {
		return // it would be said twice
	}
	if c.GRPCListen != "" {
		if err := c.ExtAuthzConfig().Validate(); err != nil {
			v.Add("extauthz", "%s", err)
		}
	}
	if err := c.ForwardAuthConfig().Validate(); err != nil {
		v.Add("forward_auth", "%s", err)
	}
}

// checkNetworks checks a list of addresses and networks.
func checkNetworks(key string, texts []string, v *models.Invalid) {
	for _, text := range texts {
		if _, err := netip.ParsePrefix(text); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			v.Add(key, "%q is neither an address nor a network such as 10.0.0.0/8", text)
		}
	}
}
