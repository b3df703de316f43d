package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"patrol/internal/certificate"
	"patrol/server/drain"
)

// listeners are those of a server, from Listen on.
type listeners struct {
	api, metrics net.Listener
	certificate  *certificate.Watched // nil without TLS
}

// Run listens and serves until ctx ends; see [Server.Listen] and [Server.Serve].
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	return s.Serve(ctx)
}

// Listen opens the listeners and logs their real addresses as `listening`, with
// the attributes `http` and, if it has its own, `metrics`, else `metrics_for`: who may
// read them.
func (s *Server) Listen(ctx context.Context) (err error) {
	if s.cfg.TLS.CertFile != "" {
		if s.listeners.certificate, err = certificate.Load("HTTP", certificate.Files{Cert: s.cfg.TLS.CertFile, Key: s.cfg.TLS.KeyFile}, "h2", "http/1.1"); err != nil {
			return err
		}
	}
	if s.listeners.certificate != nil {
		s.metrics.WatchCertificate("http", s.listeners.certificate)
	}
	var lc net.ListenConfig
	if s.listeners.api, err = lc.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	attrs := []slog.Attr{slog.String("http", s.Addr()), slog.String("url", s.BaseURL())}
	if s.cfg.MetricsListen != "" {
		if s.listeners.metrics, err = lc.Listen(ctx, "tcp", s.cfg.MetricsListen); err != nil {
			return errors.Join(fmt.Errorf("listen on %s: %w", s.cfg.MetricsListen, err), s.listeners.api.Close())
		}
		attrs = append(attrs, slog.String("metrics", s.MetricsAddr()))
	} else {
		readers := "this machine"
		if s.cfg.MetricsPublic {
			readers = "anybody"
		}
		attrs = append(attrs, slog.String("metrics_for", readers))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "listening", attrs...)
	return nil
}

// Addr returns the real address of the API after Listen, host:port.
func (s *Server) Addr() string { return s.listeners.api.Addr().String() }

// MetricsAddr returns the real address of /metrics after Listen, "" if it has no
// listener of its own.
func (s *Server) MetricsAddr() string {
	if s.listeners.metrics == nil {
		return ""
	}
	return s.listeners.metrics.Addr().String()
}

// BaseURL returns the URL under which people reach the server: the public one,
// else, after Listen, that of the listener.
func (s *Server) BaseURL() string {
	cfg := s.cfg
	if s.listeners.api != nil {
		cfg.Listen = s.Addr()
	}
	return cfg.BaseURL()
}

// BaseURL returns the URL under which people reach a server with this
// configuration: the public one, else that of the listen address.
func (c Config) BaseURL() string {
	if origin, err := publicOrigin(c.PublicURL); err == nil && origin != "" {
		return origin
	}
	scheme, addr := "http", c.Listen
	if c.TLS.CertFile != "" {
		scheme = "https"
	}
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("localhost", port)
		}
	}
	return scheme + "://" + addr
}

// Serve answers requests until ctx ends. From then on /readyz says no, and for
// HTTP.DrainDelay, or until nobody is connected any more, everything is still
// answered, so that whoever asks here has the time to go elsewhere. Then nothing new
// is taken, requests in flight may finish for at most HTTP.ShutdownTimeout, and the
// rest is cut. It returns nil after such an end. On a database without users it first makes a setup code.
// Listen must have succeeded.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Setup(ctx); err != nil {
		return errors.Join(err, s.closeListeners())
	}
	// Requests in flight outlive ctx, by the shutdown timeout at most.
	inFlight, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	background, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop()
	tasks.Go(func() { s.identity.Sweep(background) })

	main := s.httpServer(inFlight, s.Handler())
	servers := []*http.Server{main}
	failed := make(chan error, 2)
	connections := drain.Count(s.listeners.api, s.cfg.HTTP.MaxConnections)
	s.metrics.gauge("patrol_http_connections", "Open connections of the HTTP listener.", nil, func() float64 { return float64(connections.Open()) })
	main.ConnState = connections.State
	if cert := s.listeners.certificate; cert != nil {
		main.TLSConfig = cert.Config()
		tasks.Go(func() { cert.Watch(background, s.cfg.TLS.ReloadInterval, s.log) })
		go func() { failed <- main.ServeTLS(connections, "", "") }()
	} else {
		go func() { failed <- main.Serve(connections) }()
	}
	if s.listeners.metrics != nil {
		own := s.httpServer(inFlight, s.metrics.handlerAt("/metrics"))
		servers = append(servers, own)
		places := drain.Count(s.listeners.metrics, s.cfg.HTTP.MaxConnections)
		own.ConnState = places.State
		go func() { failed <- own.Serve(places) }()
	}

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		s.log.InfoContext(ctx, "shutting down", "delay", s.cfg.HTTP.DrainDelay, "timeout", s.cfg.HTTP.ShutdownTimeout)
		s.stopping.Store(true)
		connections.Linger(s.cfg.HTTP.DrainDelay)
	}
	if !s.stopping.Swap(true) {
		close(s.ending)
	}
	err = errors.Join(err, s.shutdown(inFlight, servers))
	s.identity.Wait()
	return err
}

// shutdown stops accepting and waits for requests in flight, then cuts those that
// are left.
func (s *Server) shutdown(ctx context.Context, servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HTTP.ShutdownTimeout)
	defer cancel()
	var errs []error
	for _, srv := range servers {
		err := srv.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			s.log.WarnContext(ctx, "requests were cut because they did not end in time")
			err = srv.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Server) closeListeners() error {
	err := s.listeners.api.Close()
	if s.listeners.metrics != nil {
		err = errors.Join(err, s.listeners.metrics.Close())
	}
	return err
}

// httpServer returns a server whose requests have contexts that come from base.
func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.cfg.HTTP.ReadHeaderTimeout,
		// The gateway lifts these two from its requests, and has limits of its own.
		ReadTimeout:    s.cfg.HTTP.ReadTimeout,
		WriteTimeout:   s.cfg.HTTP.WriteTimeout,
		IdleTimeout:    s.cfg.HTTP.IdleTimeout,
		MaxHeaderBytes: s.cfg.HTTP.MaxHeaderBytes,
		// Over TLS alone. What a connection may send of bodies before they are read is for
		// all its streams; who does not answer a ping is gone.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 128, MaxReadFrameSize: 64 << 10, MaxDecoderHeaderTableSize: 4 << 10,
			MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
		},
		// Failed handshakes and the like: the peer's doing, and as many as it likes.
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
	}
}

// handlerAt serves the metrics at one path and nothing else.
func (m *Metrics) handlerAt(path string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+path, m.handler)
	return mux
}

// Setup makes a setup code if the database has no users. [Server.Serve] calls it.
func (s *Server) Setup(ctx context.Context) error { return s.identity.BeginSetup(ctx, s.BaseURL()) }

// pageBase returns the beginning of the links that people are given: the public URL, or ""
// for relative links. The Host of a request is never used: its sender could have a link lead
// to a host of theirs.
func (s *Server) pageBase() string {
	if s.cfg.PublicURL != "" {
		return s.BaseURL()
	}
	return ""
}

// baseURL is [Server.BaseURL] for the pages.
func (s *Server) baseURL() string { return s.BaseURL() }
