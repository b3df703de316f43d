package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/tap"

	"patrol/internal/certificate"
	"patrol/server/check"
	"patrol/server/deadline"
	"patrol/server/drain"
	"patrol/server/request"
)

// Authorizer decides; it is an *authz.Authorizer.
type Authorizer interface {
	check.Authorizer
	// Ready returns nil if decisions are made on current facts.
	Ready() error
}

// Deps has the parts that a [Server] uses.
type Deps struct {
	Authz      Authorizer
	Logger     *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: metrics go nowhere
}

// Server is the gRPC service and its listener.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	cfg         Config
	authz       Authorizer
	logger      *slog.Logger
	log         *sparseLog
	metrics     *metrics
	gate        *deadline.Gate
	room        *room
	trusted     request.Proxies
	remove      []string // from allowed requests, always
	keep        []string // see [Config.KeepHeaders], in lower case
	dryRun      bool
	routeDryRun bool
	refusals    request.Refusals

	listener   net.Listener
	identity   *certificate.Watched // nil without TLS
	registerer prometheus.Registerer
}

// New returns a server that does not listen yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	if deps.Authz == nil {
		return nil, errors.New("extauthz: there is nobody to decide")
	}
	s := &Server{
		cfg: cfg, authz: deps.Authz, logger: deps.Logger, registerer: deps.Registerer,
		dryRun: cfg.DryRun, routeDryRun: cfg.RouteDryRun, refusals: request.Refusals{Pages: cfg.PagesURL},
		remove: []string{strings.ToLower(request.HeaderGuardrails)},
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	s.log = newSparseLog(s.logger)
	for _, name := range cfg.RemoveHeaders {
		s.remove = append(s.remove, strings.ToLower(name))
	}
	for _, name := range cfg.KeepHeaders {
		s.keep = append(s.keep, strings.ToLower(name))
	}
	s.gate = deadline.NewGate(cfg.limits(), func(value any, stack []byte) {
		s.logger.Error("judging a question of Envoy panicked", "panic", value, "stack", string(stack))
	})
	s.room = newRoom(max(cfg.MaxReceiving, int64(cfg.MaxMessageBytes)+step))
	var err error
	if s.trusted, err = request.ParseProxies(cfg.TrustedProxies); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(deps.Registerer, s.gate.InFlight); err != nil {
		return nil, fmt.Errorf("extauthz: register the metrics: %w", err)
	}
	return s, nil
}

// Run listens and serves until ctx ends; see [Server.Listen] and [Server.Serve].
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	return s.Serve(ctx)
}

// Listen opens the listener and logs its real address as `listening`, with the
// attribute `grpc`.
func (s *Server) Listen(ctx context.Context) (err error) {
	if s.cfg.TLS.CertFile != "" {
		if s.identity, err = certificate.Load("gRPC", certificate.Files{Cert: s.cfg.TLS.CertFile, Key: s.cfg.TLS.KeyFile, ClientCA: s.cfg.TLS.ClientCAFile}, "h2"); err != nil {
			return err
		}
		if s.registerer != nil {
			if err := s.registerer.Register(certificateExpiry(s.identity)); err != nil {
				return err
			}
		}
	}
	var lc net.ListenConfig
	if s.listener, err = lc.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("listen for Envoy on %s: %w", s.cfg.Listen, err)
	}
	s.logger.InfoContext(ctx, "listening", "grpc", s.Addr())
	if s.dryRun {
		s.logger.WarnContext(ctx, "dry run: every request of Envoy is allowed")
	}
	return nil
}

// Addr returns the real address after Listen, host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Names in the health service besides "", the whole.
const (
	healthService = "envoy.service.auth.v3.Authorization" // like the whole
	healthReady   = "ready"                               // decisions are made on current facts
)

// readyEvery is the interval at which "ready" is checked.
const readyEvery = time.Second

// Serve answers until ctx ends and then drains, as the package comment says. It
// returns nil after such an end. Listen must have succeeded.
func (s *Server) Serve(ctx context.Context) error {
	checker := health.NewServer()
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	server := s.grpcServer(streams, checker)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop()
	tasks.Go(func() { s.reportReady(background, checker) })
	if s.identity != nil {
		tasks.Go(func() { s.identity.Watch(background, s.cfg.TLS.ReloadInterval, s.logger) })
	}

	failed := make(chan error, 1)
	connections := drain.Count(s.listener, s.cfg.MaxConnections)
	go func() { failed <- server.Serve(connections) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve Envoy: %w", err)
	case <-ctx.Done():
	}
	checker.Shutdown() // every name says NOT_SERVING from now on
	connections.Linger(s.cfg.DrainDelay)
	endStreams()
	s.drain(server)
	return nil
}

// drain tells connections to go away, waits for what is in flight, and cuts what
// does not end.
func (s *Server) drain(server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(s.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.logger.Warn("connections of Envoy were cut because they did not end in time")
		server.Stop()
		<-done
	}
}

const (
	// streamWorkers is the number of goroutines that wait for questions. When all are busy,
	// further questions get new ones.
	streamWorkers = 64
	// What a peer may send of a question, and of all those of a connection, before
	// it is read. grpc-go takes less than the least of HTTP/2 for nothing said, and
	// renews the connection's window as bytes come; the stream's is what holds a
	// peer back.
	streamWindow, connWindow = 64 << 10, 1 << 20
	// otherMessage is the largest message of other services, health and reflection.
	otherMessage = 64 << 10
	// handshake bounds the time until a connection can ask.
	handshake = 10 * time.Second
	// maxHeaderList is the largest head of a call, of which Envoy's has a few lines;
	// the client's is in the message.
	maxHeaderList = 32 << 10
)

// grpcServer returns the server, whose streams end with the context streams: those
// who watch the health service would hold up the drain.
func (s *Server) grpcServer(streams context.Context, checker *health.Server) *grpc.Server {
	k := s.cfg.Keepalive
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(otherMessage),
		grpc.MaxConcurrentStreams(uint32(s.cfg.MaxStreams)), //nolint:gosec // validated
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.ConnectionTimeout(handshake),
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			if info.FullMethodName == checkMethod {
				s.room.hold()
			}
			return ctx, nil
		}),
		// Goroutines that live on have their stacks already, and windows of fixed size
		// need no pings to find it.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: k.Time, Timeout: k.Timeout, MaxConnectionAge: k.MaxConnectionAge, MaxConnectionAgeGrace: s.cfg.DrainTimeout,
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod == checkMethod { // which ends by itself
				return handler(srv, stream)
			}
			ctx, cancel := context.WithCancel(stream.Context())
			defer cancel()
			defer context.AfterFunc(streams, cancel)()
			return handler(srv, endingStream{stream, ctx})
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: k.MinClientTime, PermitWithoutStream: true}),
	}
	if s.identity != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.identity.Config())))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&checkService, s)
	healthpb.RegisterHealthServer(server, checker)
	checker.SetServingStatus(healthService, healthpb.HealthCheckResponse_SERVING)
	checker.SetServingStatus(healthReady, healthpb.HealthCheckResponse_NOT_SERVING) // until it is looked at
	if s.cfg.Reflection {
		reflection.Register(server)
	}
	return server
}

// reportReady keeps the health service's "ready" current until ctx ends.
func (s *Server) reportReady(ctx context.Context, checker *health.Server) {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	for {
		status := healthpb.HealthCheckResponse_SERVING
		if s.authz.Ready() != nil {
			status = healthpb.HealthCheckResponse_NOT_SERVING
		}
		checker.SetServingStatus(healthReady, status)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// endingStream is a stream that ends with a context of its own.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it stands in for the stream's, which is contained as well
}

// Context returns the stream's context.
func (s endingStream) Context() context.Context { return s.ctx }
