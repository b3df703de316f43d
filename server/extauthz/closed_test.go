package extauthz_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"patrol/internal/authztest"
	"patrol/policies/engine"
	"patrol/server/authz"
	"patrol/server/extauthz"
)

// Whatever goes wrong with a request that arrived, the answer is a denial and
// not an error, which failure_mode_allow would turn into "let it pass".

func TestTheDatabaseGoneStalledOrSlow(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	req := question("GET", "/proxy/acme/v1/models", bearer(token))
	require.Equal(t, 200, denialStatus(b.ask(t, req)))
	release := make(chan struct{})
	defer close(release)
	for name, gate := range map[string]func(context.Context) error{
		"gone":                    func(context.Context) error { return authztest.ErrDown },
		"slow":                    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"stalled, deaf to cancel": func(context.Context) error { <-release; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			b.Gate(gate)
			defer b.Gate(nil)
			for _, deadline := range []time.Duration{time.Second, 100 * time.Millisecond} {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				begin := time.Now()
				res, err := b.client.Check(ctx, req)
				took := time.Since(begin)
				cancel()
				require.NoError(t, err)
				require.Equal(t, 503, denialStatus(res))
				p := problem(t, res)
				assert.Equal(t, "unavailable", p.Code)
				assert.NotEmpty(t, p.DecisionID)
				assert.Equal(t, "1", headers(res.GetDeniedResponse().GetHeaders())["retry-after"])
				// By the contract; what comes on top is the way there and back.
				assert.Less(t, took, min(150*time.Millisecond, deadline-20*time.Millisecond)+100*time.Millisecond)
			}
			assert.NotContains(t, b.Log.String(), token)
		})
	}
}

func TestADeadlineTooShortToJudge(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	ctx, cancel := context.WithTimeout(t.Context(), 19*time.Millisecond)
	defer cancel()
	res, err := b.client.Check(ctx, question("GET", "/proxy/acme/v1/models", bearer(token)))
	if err == nil { // else this machine took longer than that to ask
		assert.Equal(t, 503, denialStatus(res))
	}
}

func TestAPanic(t *testing.T) {
	w := authztest.New(t)
	b := startWith(t, w, listener{w, func(context.Context, authz.Call) { panic("a defect") }}, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	require.Equal(t, 503, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models", bearer(token)))))
	assert.InDelta(t, 1, b.count(t, "panic"), 0)
	assert.Contains(t, b.Log.String(), "a defect")
}

func TestTheQueueFull(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.MaxInFlight, c.Timeout = 5, 10*time.Second }) // of the five, one is for tokens that have verified
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	req := question("GET", "/proxy/acme/v1/models", bearer(token))
	release, arrived := make(chan struct{}), make(chan struct{}, 100)
	b.Gate(func(context.Context) error { arrived <- struct{}{}; <-release; return nil })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { assert.Equal(t, 200, denialStatus(b.ask(t, req))) })
		<-arrived
	}
	for range 20 {
		require.Equal(t, 503, denialStatus(b.ask(t, req)))
	}
	close(release)
	wg.Wait()
	assert.InDelta(t, 20, b.count(t, "overload"), 0)
	assert.Equal(t, 1, strings.Count(b.Log.String(), "refused without being judged"), "the log is not flooded")
}

func TestAPolicyThatFails(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	src := authztest.Source(t)
	src.Files["http/slow.rego"] = []byte("package patrol.http\n\nslow contains [a, b, c] if {\n\tsome a in numbers.range(1, 2000)\n\tsome b in numbers.range(1, 2000)\n\tsome c in numbers.range(1, 2000)\n}\n")
	src.Files["http/http.rego"] = append(src.Files["http/http.rego"], []byte("\nhints := {\"websocket\": true} if count(slow) > 3\n")...)
	b.Policy.Swap(authztest.Load(t, src, engine.WithTimeout(50*time.Millisecond)))
	assert.Equal(t, 503, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models", bearer(token)))))
}

func TestMessagesThatCannotBeRead(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.MaxMessageBytes = 64 << 10 })
	_, token := b.Mint(t, "u1", "acme:models:*:execute")
	large := question("POST", "/proxy/acme/v1/chat/completions", bearer(token))
	large.GetAttributes().GetRequest().GetHttp().RawBody = bytes.Repeat([]byte(" "), 128<<10)
	for name, req := range map[string]*authv3.CheckRequest{
		"empty":         {},
		"no request":    {Attributes: &authv3.AttributeContext{}},
		"not HTTP":      {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
		"too large":     large,
		"no method":     question("", "/proxy/acme/v1/models", bearer(token)),
		"no path":       question("GET", "", bearer(token)),
		"absolute form": question("GET", "http://x/proxy/acme/v1/models", bearer(token)),
	} {
		assert.Contains(t, []int{400, 403}, denialStatus(b.ask(t, req)), name)
	}

	var raw rawCodec
	res := new(authv3.CheckResponse)
	err := b.conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte{0xff, 0xff, 0xff}, res, grpc.ForceCodecV2(raw))
	require.NoError(t, err)
	assert.Equal(t, 400, denialStatus(res))
}

// rawCodec sends bytes as they are and reads messages.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}

func (rawCodec) Name() string { return "proto" }

func TestDryRun(t *testing.T) {
	extension := map[string]string{"patrol.dry_run": "true"}
	for _, c := range []struct {
		name       string
		change     func(*extauthz.Config)
		extensions map[string]string
		passes     bool
	}{
		{"off", func(*extauthz.Config) {}, extension, false},
		{"everywhere", func(c *extauthz.Config) { c.DryRun = true }, nil, true},
		{"on the route", func(c *extauthz.Config) { c.RouteDryRun = true }, extension, true},
		{"on another route", func(c *extauthz.Config) { c.RouteDryRun = true }, nil, false},
		{"on the route, not true", func(c *extauthz.Config) { c.RouteDryRun = true }, map[string]string{"patrol.dry_run": "1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, c.change)
			id, token := b.Mint(t, "u1", "acme:models:*:read")
			ask := func(req *authv3.CheckRequest) *authv3.CheckResponse {
				req.Attributes.ContextExtensions = c.extensions
				return b.ask(t, req)
			}
			foreign := ask(question("GET", "/anything", "authorization: Basic dTpw", "x-patrol-user: root", "x-patrol-role: admin"))
			own := ask(question("GET", "/anything", bearer(token)))
			b.Gate(func(context.Context) error { return authztest.ErrDown })
			down := ask(question("GET", "/anything", bearer(token)))
			if !c.passes {
				assert.Equal(t, []int{401, 403, 503}, []int{denialStatus(foreign), denialStatus(own), denialStatus(down)})
				return
			}
			assert.Equal(t, []int{200, 200, 200}, []int{denialStatus(foreign), denialStatus(own), denialStatus(down)})
			removed := foreign.GetOkResponse().GetHeadersToRemove()
			assert.Subset(t, removed, []string{"x-patrol-user", "x-patrol-domain", "x-patrol-token-id", "x-patrol-role"})
			assert.NotContains(t, removed, "authorization", "it is not Patrol's")
			assert.Contains(t, own.GetOkResponse().GetHeadersToRemove(), "authorization")
			metadata := own.GetDynamicMetadata().AsMap()
			assert.Equal(t, true, metadata["dry_run"])
			assert.Equal(t, false, metadata["allowed"])
			assert.InDelta(t, 403, metadata["would_be_status"], 0)
			assert.Equal(t, "route_unmapped", metadata["reason"])
			assert.Equal(t, id, metadata["token_id"])
			assert.InDelta(t, 3, b.count(t, "would_deny"), 0)
			assert.Contains(t, b.Log.String(), "would have been refused")
		})
	}
}

func TestWhatTheClientAccepts(t *testing.T) {
	b := start(t, nil)
	for accept, want := range map[string]string{
		"":                                   "application/problem+json",
		"*/*":                                "application/problem+json",
		"application/json":                   "application/json",
		"application/problem+json":           "application/problem+json",
		"text/plain":                         "text/plain; charset=utf-8",
		"text/html,application/xhtml+xml":    "text/html; charset=utf-8",
		"text/html;q=0.2, application/json":  "application/json",
		"application/json;q=0.2, text/plain": "text/plain; charset=utf-8",
		"text/plain;q=none":                  "application/problem+json",
	} {
		res := b.ask(t, question("GET", "/proxy/acme/v1/models", "accept: "+accept))
		denied := res.GetDeniedResponse()
		require.NotNil(t, denied)
		assert.Equal(t, want, headers(denied.GetHeaders())["content-type"], accept)
		assert.Contains(t, denied.GetBody(), "No access token was sent")
	}
}

func TestNothingElseIsServed(t *testing.T) {
	b := start(t, nil)
	err := b.conn.Invoke(t.Context(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &authv3.CheckRequest{}, &authv3.CheckResponse{})
	assert.Equal(t, codes.Unimplemented, status.Code(err), "reflection is off")
	on := start(t, func(c *extauthz.Config) { c.Reflection = true })
	stream, err := on.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	err = stream.RecvMsg(&authv3.CheckResponse{})
	assert.NotEqual(t, codes.Unimplemented, status.Code(err))
}

func TestTheAddressIsTaken(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	cfg := config()
	cfg.Listen = taken.Addr().String()
	s, err := extauthz.New(cfg, extauthz.Deps{Authz: authztest.New(t)})
	require.NoError(t, err)
	assert.ErrorContains(t, s.Run(t.Context()), "listen for Envoy on "+cfg.Listen)
}
