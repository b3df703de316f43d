package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"patrol/bench"
	"patrol/bundles"
	"patrol/internal/heap"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/extauthz"
)

// constant answers what Patrol does, always the same.
type constant struct {
	authv3.UnimplementedAuthorizationServer
	answer *authv3.CheckResponse
}

// Check answers the constant.
func (c constant) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return c.answer, nil
}

// serveConstant is the server that Patrol is measured against.
func serveConstant(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	id := models.NewID()
	set := func(name, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
	}
	text := structpb.NewStringValue
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, constant{answer: &authv3.CheckResponse{
		Status: &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:              []*corev3.HeaderValueOption{set("x-patrol-user", id), set("x-patrol-domain", "acme"), set("x-patrol-token-id", id)},
			HeadersToRemove:      []string{"authorization", "x-guardrails-request"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{set("x-patrol-decision-id", id)},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"decision_id": text(id), "user": text(id), "token_id": text(id), "scope": text(id), "revision": text("sha256:" + id), "domain": text("acme"),
			"allowed": structpb.NewBoolValue(true),
		}},
	}})
	stop := context.AfterFunc(ctx, server.GracefulStop)
	defer stop()
	fmt.Println(l.Addr())
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// servePatrol is the gRPC service over a database, as cmd/patrol puts it together.
func servePatrol(ctx context.Context, url, keys string) (err error) {
	defer heap.Headroom(256 << 20)() // the default
	s, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	source, err := bundles.Open(ctx, "")
	if err != nil {
		return err
	}
	// A busy machine makes numbers worse; denials would make them none.
	policy, err := engine.Load(ctx, source, engine.WithTimeout(time.Minute))
	if err != nil {
		return err
	}
	if err := policy.Hasten(ctx, engine.DefaultTrials); err != nil {
		return err
	}
	w := &bench.World{}
	if w.Keys, err = models.ParseKeyring(keys); err != nil {
		return err
	}
	a, err := bench.NewAuthorizer(w, s, policy)
	if err != nil {
		return err
	}
	stop, err := bench.StartCaching(context.WithoutCancel(ctx), a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	cfg := extauthz.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.Timeout = time.Minute // likewise
	server, err := extauthz.New(cfg, extauthz.Deps{
		Authz: a, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	if err := server.Listen(ctx); err != nil {
		return err
	}
	fmt.Println(server.Addr())
	return server.Serve(ctx)
}
