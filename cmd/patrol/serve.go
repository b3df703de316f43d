package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"patrol/bundles"
	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/tombstones"
	"patrol/server"
	"patrol/server/authz"
	"patrol/server/decisionlog"
	"patrol/server/extauthz"
	"patrol/server/forwardauth"
	"patrol/server/gateway"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/shadow"
)

func (p *process) serveCommand() *cobra.Command {
	var demo bool
	cmd := &cobra.Command{
		Use:     "serve",
		GroupID: groupServer,
		Short:   "Run the server",
		Long: `Run the server until it is interrupted (SIGTERM, SIGINT, or SIGHUP of the terminal that it was started at); then it finishes what is in flight
and exits with status 0. Without a terminal SIGHUP changes nothing: files are read again when they change.

The schema is brought up to date at the start, under a lock, unless database.migrate is false. An empty database has no account: the log names
a file with a setup code, or run 'patrol user create --admin'. With SQLite the key that tokens are hashed with is made in the data folder; with
PostgreSQL it must be set (PATROL_TOKEN_KEYS).

With --demo everything is thrown away at the end: accounts, a domain, tokens and a stand-in for a model server are made, and the lines to try
are printed.`,
		Example: `  patrol serve --demo
  patrol serve --listen :8080 --upstream http://127.0.0.1:11434
  patrol serve --config /etc/patrol.yaml`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			ctx, stop := p.untilHangup(cmd.Context(), p.logger(cfg.Log))
			defer stop()
			if demo {
				return p.serveDemo(ctx, cfg, cmd.Flags().Changed("data-dir"))
			}
			return p.serve(ctx, cfg, occasions{})
		},
	}
	cmd.Flags().BoolVar(&demo, "demo", false, "try Patrol with throwaway data and a stand-in upstream")
	return cmd
}

const (
	// keepChanges is the time for which the change feed is kept for readers that lag. They
	// poll several times a second; one that lags more drops its whole cache.
	keepChanges = time.Hour
	pruneEvery  = 10 * time.Minute
)

// node is a server with everything that it works with.
type node struct {
	log   *slog.Logger
	store *store.Store
	self  store.Server // as other servers on the database know it
	keys  models.Keyring
	authz *authz.Authorizer
	// decisions is the database of the decision log, and record what writes to it
	// and elsewhere; nil: there is none.
	decisions *store.Decisions
	record    *decisionlog.Log
	buried    *tombstones.File // nil: no tombstones are kept
	keeper    *keyKeeper
	// purgeAfter is the time for which records of dead tokens are kept; 0: for ever.
	purgeAfter time.Duration
	// keepAudit is the retention of events of the audit log, keepUses that of the last use of
	// tokens; 0: for ever.
	keepAudit, keepUses time.Duration

	proxy  *gateway.Gateway
	policy *bundles.Delivery
	shadow *shadow.Shadow   // nil: nothing is judged beside it
	envoy  *extauthz.Server // nil: nothing answers Envoy over gRPC
	server *server.Server
}

// occasions are startup hooks; nil: none.
type occasions struct {
	opened    func(context.Context, *node) error // everything is there, nothing listens
	listening func(context.Context, *node) error // the addresses are known
}

// serve runs a server until ctx ends.
func (p *process) serve(ctx context.Context, cfg config.Config, on occasions) (err error) {
	log := p.logger(cfg.Log)
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // told to stop while it was starting: no failure either
		}
		if err == nil {
			log.Info("stopped")
		}
	}()
	defer p.useMemory(cfg, log)()
	n, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if on.opened != nil {
		if err := on.opened(ctx, n); err != nil {
			return err
		}
	}
	if err := n.server.Listen(ctx); err != nil {
		return err
	}
	if err := n.listenForEnvoy(ctx, cfg.GRPCListen); err != nil {
		return err
	}
	if on.listening != nil {
		if err := on.listening(ctx, n); err != nil {
			return err
		}
	}
	unprofiled, err := listenForProfiles(ctx, cfg.Profiling, log)
	if err != nil {
		return err
	}
	defer unprofiled()
	base, err := localURL(cfg, n.server.Addr())
	if err != nil {
		return err
	}
	told, err := p.tellManager(ctx, base, log)
	if err != nil {
		return err
	}
	defer told()
	return n.run(ctx)
}

// close ends the connections to the databases.
func (n *node) close() error {
	err := n.store.Close()
	if n.decisions != nil {
		err = errors.Join(err, n.decisions.Close())
	}
	if n.buried != nil {
		err = errors.Join(err, n.buried.Close())
	}
	return err
}

// open puts the parts together. Nothing runs yet.
func open(ctx context.Context, cfg config.Config, log *slog.Logger) (n *node, err error) {
	metrics := server.NewMetrics()
	if err := warnOfFiles(ctx, cfg, log); err != nil {
		return nil, err
	}
	s, err := openStore(ctx, cfg, orNew, store.Config{Logger: log, OnQuery: metrics.Query})
	if err != nil {
		return nil, err
	}
	n = &node{log: log, store: s, purgeAfter: cfg.Tokens.PurgeAfter, keepAudit: cfg.Audit.Retention, keepUses: cfg.Tokens.LastUse, self: store.Server{
		ID: models.NewID(), StartedAt: time.Now(), MaxStaleness: cfg.Decisions.MaxStaleness,
	}}
	opened := n
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if err := checkClock(ctx, cfg, n.store, time.Now()); err != nil {
		return nil, err
	}
	var stones []models.Tombstone
	if n.buried, stones, err = keepTombstones(ctx, cfg, n.store, time.Now(), true); err != nil {
		return nil, err
	}
	if err := takeAwayAgain(ctx, n.store, stones, log); err != nil {
		return nil, err
	}
	if locked, err := n.store.FeedLocked(ctx); err != nil {
		return nil, err
	} else if locked {
		log.WarnContext(ctx, "writes wait for each other, for servers of a version before: once none of them runs, run 'patrol migrate --finish'")
	}
	if n.keys, err = tokenKeys(ctx, cfg, n.store, time.Now()); err != nil {
		return nil, err
	}
	if n.keeper, err = newKeyKeeper(ctx, cfg, n.store, n.keys, log); err != nil {
		return nil, err
	}
	n.keys = n.keeper.ring
	n.decisions, err = openDecisions(ctx, cfg, store.Config{Logger: log, OnQuery: metrics.Query})
	if err != nil {
		return nil, err
	}
	metrics.WatchDatabase("records", n.store)
	if n.decisions != nil {
		metrics.WatchDatabase("decision_log", n.decisions)
	}
	if n.policy, err = deliverPolicy(ctx, cfg, n.store, n.decisions, log, metrics.Registry()); err != nil {
		return nil, err
	}
	policy := n.policy.Engine()
	log.InfoContext(ctx, "policy loaded", "revision", policy.Current().Revision())
	if n.record, err = openDecisionLog(ctx, cfg, n.decisions, policy, metrics, log); err != nil {
		return nil, err
	}
	var recorder authz.Recorder
	if n.record != nil {
		recorder = n.record
	}
	n.shadow, err = openShadow(ctx, cfg, shadowDeps{
		store: n.store, decisions: n.decisions, policy: n.policy, next: recorder, log: log, registerer: metrics.Registry(),
	})
	if err != nil {
		return nil, err
	}
	var beside manage.Shadow
	if n.shadow != nil {
		recorder, beside = n.shadow, n.shadow
	}
	n.authz, err = authz.New(authz.Config{
		Keys: n.keys, Policy: policy, Facts: buriedFacts{Facts: n.store.Facts(), file: n.buried, now: time.Now}, Feed: n.store, Journal: n.store, Recorder: recorder, Metrics: metrics, Logger: log,
		Acknowledge: func(ctx context.Context, at models.FeedPosition) error {
			return opened.store.Acknowledge(ctx, opened.self.ID, at)
		},
		MaxLifetime: cfg.Tokens.MaxLifetime, MaxAbsence: cfg.OIDC.ServerConfig().MaxAbsence, FactTTL: cfg.Decisions.CacheTTL, MaxStaleness: cfg.Decisions.MaxStaleness,
		PollInterval: cfg.Decisions.PollInterval, LookupTimeout: cfg.Decisions.LookupTimeout, CacheSize: cfg.Decisions.CacheSize,
		MaxLookups: cfg.Decisions.MaxLookups, FailuresPerMin: cfg.Decisions.FailuresPerMin, ForeignUseEvery: cfg.Decisions.ForeignUse, MaxFull: cfg.Decisions.MaxFull, Kinds: cfg.DomainKinds(), Headers: cfg.Decisions.Headers,
	})
	if err != nil {
		return nil, fmt.Errorf("set decisions up: %w", err)
	}
	n.store.OnChange(n.authz.Apply)
	n.proxy, err = gateway.New(gatewayConfig(cfg), n.authz, log)
	if err != nil {
		return nil, fmt.Errorf("set the gateway up: %w", err)
	}
	forwardConfig, envoyConfig := cfg.ForwardAuthConfig(), cfg.ExtAuthzConfig()
	forwardConfig.PagesURL, envoyConfig.PagesURL = pagesURL(cfg), pagesURL(cfg)
	forward, err := forwardauth.New(forwardConfig, forwardauth.Deps{Authz: n.authz, Peer: request.Peer, Logger: log})
	if err != nil {
		return nil, err
	}
	if cfg.GRPCListen != "" {
		n.envoy, err = extauthz.New(envoyConfig, extauthz.Deps{Authz: n.authz, Logger: log, Registerer: metrics.Registry()})
		if err != nil {
			return nil, err
		}
	}
	playground, err := openPlayground(cfg)
	if err != nil {
		return nil, err
	}
	n.server, err = server.New(serverConfig(cfg), server.Deps{ //nolint:contextcheck // what it makes gets the contexts of requests
		Store: n.store, Decisions: n.decisions, Authz: n.authz, Engine: policy, Policy: n.policy, Shadow: beside, Playground: playground, Keys: n.keys, ID: n.self.ID, Gateway: n.proxy, ForwardAuth: forward, Metrics: metrics, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("set the server up: %w", err)
	}
	return n, nil
}

// run serves until ctx ends, and what runs beside the server a little longer: the
// last uses of tokens and the last decisions are written when no request is in flight any more.
func (n *node) run(ctx context.Context) error {
	n.self.Name = serverName(n.server.Addr())
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()

	decided := make(chan error, 1)
	go func() {
		err := n.authz.Run(beside)
		if err != nil && beside.Err() == nil {
			stop(err) // without the change feed no decision is current
		}
		decided <- err
	}()
	known := make(chan struct{})
	go func() {
		defer close(known)
		n.stayKnown(beside)
	}()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		n.store.Listen(beside, n.self.MaxStaleness/2, n.authz.Poll)
	}()
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		if n.record != nil {
			_ = n.record.Run(beside) // it has no error to return
		}
	}()
	shadowed := make(chan struct{})
	go func() {
		defer close(shadowed)
		if n.shadow != nil {
			_ = n.shadow.Run(beside) // likewise
		}
	}()
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		n.policy.Run(ctx) // nothing new comes into force while requests in flight end
	}()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		n.keeper.run(beside)
	}()
	pruned := make(chan struct{})
	go func() {
		defer close(pruned)
		n.prune(beside)
	}()

	answered := make(chan error, 1)
	go func() { answered <- n.serveEnvoy(ctx, stop) }()
	err := n.server.Serve(ctx)
	stop(err) // one does not go on without the other
	err = errors.Join(err, <-answered)
	n.proxy.Close()
	stopBeside()
	<-delivered
	<-known
	<-heard
	<-pruned
	<-kept
	<-recorded
	<-shadowed
	if runErr := <-decided; runErr != nil && !errors.Is(runErr, context.Canceled) {
		err = errors.Join(err, runErr)
	}
	return err
}

// listenForEnvoy opens the gRPC listener. Something else at the address that is
// there by default, such as a second Patrol that somebody tries out, keeps nobody
// from what they did ask for.
func (n *node) listenForEnvoy(ctx context.Context, addr string) error {
	if n.envoy == nil {
		return nil
	}
	err := n.envoy.Listen(ctx)
	if errors.Is(err, syscall.EADDRINUSE) && addr == config.Default().GRPCListen {
		n.log.ErrorContext(ctx, "nothing here answers Envoy: another program is at the default address; set grpc_listen", "error", err)
		n.envoy = nil
		return nil
	}
	return err
}

// serveEnvoy answers Envoy until ctx ends. If it cannot, it stops the rest.
func (n *node) serveEnvoy(ctx context.Context, stop context.CancelCauseFunc) error {
	if n.envoy == nil {
		return nil
	}
	err := n.envoy.Serve(ctx)
	if err != nil {
		stop(err)
	}
	return err
}

// seeEvery is the interval at which a server reports to the others.
const seeEvery = store.ServerGone / 4

// stayKnown tells other servers on the database of this one until ctx ends.
func (n *node) stayKnown(ctx context.Context) {
	ticker := time.NewTicker(seeEvery)
	defer ticker.Stop()
	for {
		if err := n.store.SeeServer(ctx, n.self); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "other servers could not be told of this one", "error", err)
		}
		n.buryAgain(ctx)
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := n.store.ForgetServer(ctx, n.self.ID); err != nil {
				n.log.WarnContext(ctx, "other servers could not be told of the end of this one", "error", err)
			}
			return
		case <-ticker.C:
		}
	}
}

// buryAgain writes tombstones that could not be written.
func (n *node) buryAgain(ctx context.Context) {
	if n.buried != nil && n.buried.Unwritten() && n.buried.Append(nil) == nil {
		n.log.InfoContext(ctx, "the tombstones that could not be written are in their file now")
	}
}

// serverName is the name of a server for people: its host and address.
func serverName(addr string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + " " + addr
}

// pagesURL returns where people find the pages, "" if the port is not known before
// the server listens.
func pagesURL(cfg config.Config) string {
	if _, port, err := net.SplitHostPort(cfg.Listen); cfg.PublicURL == "" && (err != nil || port == "0") {
		return ""
	}
	return serverConfig(cfg).BaseURL()
}

// serverConfig translates the settings for the HTTP surface.
func serverConfig(cfg config.Config) server.Config {
	c := server.DefaultConfig()
	c.Listen, c.MetricsListen, c.MetricsPublic = cfg.Listen, cfg.Metrics.Listen, cfg.Metrics.Public
	c.PublicURL, c.DataDir = cfg.PublicURL.Reveal(), cfg.DataDir
	c.TrustedProxies, c.TrustedCallers = cfg.TrustedProxies, cfg.TrustedCallers
	c.AuthZENDomain = cfg.AuthZEN.Domain
	c.Limits = cfg.Tokens.Limits()
	c.OIDC = cfg.OIDC.ServerConfig()
	c.TLS = server.TLSConfig{CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, ReloadInterval: cfg.TLS.ReloadInterval}
	c.Sessions = identity.SessionConfig{IdleTimeout: cfg.Sessions.Idle, Lifetime: cfg.Sessions.Lifetime, FreshFor: cfg.Sessions.FreshSignIn, FreshAdminFor: cfg.Sessions.FreshAdmin}

	c.HTTP.ReadHeaderTimeout, c.HTTP.ReadTimeout = cfg.HTTP.ReadHeaderTimeout, cfg.HTTP.ReadTimeout
	c.HTTP.WriteTimeout, c.HTTP.IdleTimeout = cfg.HTTP.WriteTimeout, cfg.HTTP.IdleTimeout
	c.HTTP.HSTSIncludeSubdomains = cfg.HTTP.HSTSIncludeSubdomains
	c.HTTP.MaxInFlight, c.HTTP.MaxConnections = cfg.HTTP.MaxInFlight, cfg.HTTP.MaxConnections
	c.HTTP.MaxHeaderBytes, c.HTTP.DrainDelay, c.HTTP.ShutdownTimeout = int(cfg.HTTP.MaxHeader), cfg.HTTP.DrainDelay, cfg.HTTP.ShutdownTimeout

	c.LogRetention, c.LogMaxRows = cfg.DecisionLog.Retention, int64(cfg.DecisionLog.MaxRows)
	c.BundleCredential = cfg.Bundle.ServeCredential.Reveal()

	c.Lookups, c.FoundPerMinute = cfg.Domains.Lookups, cfg.Tokens.FoundPerMinute
	c.Playground = manage.PlaygroundConfig{
		Timeout: trialPatience + cfg.Playground.Timeout, PerMinute: cfg.Playground.PerMinute, MaxBody: int64(cfg.Playground.MaxBody), MaxReplay: cfg.Playground.MaxReplay,
	}

	c.Login.PerAddress, c.Login.PerAccount = cfg.Passwords.FailuresPerAddress, cfg.Passwords.FailuresPerAccount
	c.Login.PerNetwork = cfg.Passwords.FailuresPerNetwork
	if n := cfg.Passwords.HashesAtOnce; n > 0 {
		c.Login.Concurrency = n
	}
	c.Login.ResetValidFor = cfg.Passwords.ResetValidFor
	c.Login.Argon2Memory = uint32(cfg.Passwords.Memory >> 10)   //nolint:gosec // at most 4 GiB, validated
	c.Login.Argon2Iterations = uint32(cfg.Passwords.Iterations) //nolint:gosec // at most 100, validated
	c.Login.Argon2Lanes = uint8(cfg.Passwords.Lanes)            //nolint:gosec // at most 255, validated
	return c
}
