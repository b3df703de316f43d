package gateway

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/request"
	"patrol/server/route"
)

const (
	// continueTimeout is the time that an upstream has to ask for the body of a request
	// that offers to wait for that, before it is sent unasked.
	continueTimeout = time.Second
	// cutTime bounds the time for which writes still hang on a slow client once
	// a request was cut, and how long what is left of a body is waited for after the
	// answer.
	cutTime = 2 * time.Second
	// statusClientGone is the status in access logs for a client that did not wait, as
	// nginx does. Nobody reads the answer.
	statusClientGone = 499
)

var (
	errLifetime     = errors.New("the request reached its longest life")
	errUpstreamAuth = errors.New("the upstream refused the gateway's credential")
)

// target is an upstream, prepared.
type target struct {
	base   *url.URL
	header http.Header // set on every request
}

func newTarget(u Upstream) *target {
	t := &target{header: http.Header{}}
	t.base, _ = parseBase(u.URL) // validated
	for name, value := range u.Headers {
		t.header.Set(name, string(value))
	}
	if u.Credential != "" {
		t.header.Set(u.credentialHeader(), string(u.Credential))
	}
	return t
}

// url returns where r goes: what stands behind /proxy/{domain}, in the canonical
// spelling.
func (t *target) url(r models.HTTPRequest) *url.URL {
	u := *t.base
	u.RawPath = t.base.RawPath + route.EscapedPath(r, 2)
	u.Path, _ = url.PathUnescape(u.RawPath) // valid, as it was just written
	u.RawQuery = route.EncodedQuery(r)
	return &u
}

func (g *Gateway) target(domain string) *target {
	if t, ok := g.targets[domain]; ok {
		return t
	}
	return g.targets[AnyDomain]
}

// forward streams the request to its upstream and the answer back.
func (x *exchange) forward(ctx context.Context) {
	t := x.g.target(x.domain)
	if t == nil {
		x.fail(http.StatusNotFound, codeNoUpstream, "There is no service behind this domain.")
		return
	}
	alive, cancel := context.WithTimeoutCause(ctx, x.g.cfg.MaxStream, errLifetime)
	defer cancel()
	held, stop := x.p.Hold(alive)
	defer stop()
	defer x.watch(ctx, held)()

	in := x.r.WithContext(held)
	in.Body = x.body
	if x.kept != nil {
		in.Body = http.NoBody // it gets its own when it is sent
		in.ContentLength, in.TransferEncoding = x.kept.length(), nil
	}
	if x.noUpgrade {
		in.Header = in.Header.Clone()
		in.Header.Del("Upgrade")
	}
	out := &answer{ResponseWriter: x.w, header: http.Header{}, unread: x.unread}
	proxy := httputil.ReverseProxy{
		Transport:     x,
		FlushInterval: -1,
		BufferPool:    buffers,
		ErrorLog:      slog.NewLogLogger(x.g.log.Handler(), slog.LevelDebug),
		Rewrite:       func(pr *httputil.ProxyRequest) { x.rewrite(pr.Out, t) },
		ModifyResponse: func(res *http.Response) error {
			return x.admitAnswer(res, t)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if !out.hijacked {
				x.failed(ctx, context.Cause(held), err)
			}
		},
	}
	proxy.ServeHTTP(out, in)
	out.sendTrailer()
}

// watch cuts the request off once held ends for a reason other than that client
// has.
// The function it returns ends that and must be called before the handler returns.
func (x *exchange) watch(client, held context.Context) (done func()) {
	finished := make(chan struct{})
	unwatch := context.AfterFunc(held, func() {
		defer close(finished)
		if client.Err() != nil {
			return
		}
		x.logger().InfoContext(held, "a proxied request was cut", "reason", context.Cause(held))
		// The transport sees held for itself. What it cannot end is a copy that
		// hangs on the client.
		control := http.NewResponseController(x.w)
		_ = control.SetReadDeadline(time.Now().Add(cutTime))
		_ = control.SetWriteDeadline(time.Now().Add(cutTime))
	})
	return func() {
		if !unwatch() {
			<-finished
		}
	}
}

// rewrite turns out, a copy of the client's request without hop-by-hop headers,
// into what is sent to t.
func (x *exchange) rewrite(out *http.Request, t *target) {
	out.URL, out.Host = t.url(x.judged), ""
	out.Trailer = nil // some servers merge trailers into the header
	if x.kept != nil {
		out.Header.Del("Expect")
		if x.kept.size > 0 {
			out.Body = x.kept.body()
		}
		// Lets the transport send the request again if a connection turns out to
		// be closed before a byte of it was written.
		out.GetBody = func() (io.ReadCloser, error) { return x.kept.body(), nil }
	}
	h := out.Header
	if x.g.cfg.KeyHeaders {
		for _, e := range request.KeyEdits(h) {
			if h.Del(e.Name); e.Value != "" {
				h.Set(e.Name, e.Value)
			}
		}
	}
	cleanRequestHeader(h)
	if x.kept != nil && len(x.kept.edits) > 0 {
		for _, name := range digests {
			h.Del(name)
		}
	}
	if x.judged.Body != nil {
		h.Set("Content-Type", x.judged.Body.ContentType)
	}
	if !repeatable(out.Method) {
		// By their canonical names these tell the transport that it may send a request
		// twice. What an upstream makes of them is between it and the client.
		for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
			if values, ok := h[name]; ok {
				delete(h, name)
				h[strings.ToLower(name)] = values
			}
		}
	}
	request.Identify(h, x.decision, x.domain)
	if x.requestID != "" {
		h.Set("X-Request-Id", x.requestID)
	}
	if ip := request.PeerOf(x.r); ip.IsValid() {
		h.Set("X-Forwarded-For", ip.String())
	}
	scheme, host := x.public()
	h.Set("X-Forwarded-Proto", scheme)
	h.Set("X-Forwarded-Host", host)
	maps.Copy(h, t.header)
}

// public returns scheme and host of this server as clients know it.
func (x *exchange) public() (scheme, host string) {
	switch {
	case x.g.public != nil:
		return x.g.public.Scheme, x.g.public.Host
	case x.r.TLS != nil:
		return "https", x.r.Host
	default:
		return "http", x.r.Host
	}
}

// admitAnswer makes an upstream's answer fit for the client.
func (x *exchange) admitAnswer(res *http.Response, t *target) error {
	if x.kept != nil {
		x.kept.release() // it is not sent again; a long answer does not hold it
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return errUpstreamAuth
	}
	x.referrer(t).admit(res)
	cleanAnswerHeader(res.Header)
	cleanTrailer(res.Trailer)
	if x.keyed {
		private(res.Header)
	}
	keepEventsAlive(res, x.g.cfg.KeepAlive)
	if expires := x.p.Expires(); !expires.IsZero() {
		res.Header.Set(request.HeaderTokenExpires, request.FormatExpiry(expires))
	}
	return nil
}

// failed answers a request for which there is no answer of the upstream: because
// it was given up for cause, else because of err.
func (x *exchange) failed(ctx context.Context, cause, err error) {
	netErr, isNet := errors.AsType[net.Error](err)
	opErr, isOp := errors.AsType[*net.OpError](err)
	switch {
	case ctx.Err() != nil:
		x.w.Header().Set("Connection", "close") // whatever comes over it still
		x.w.WriteHeader(statusClientGone)
		return
	case errors.Is(cause, authz.ErrDenied):
		x.deniedMeanwhile(ctx)
		return
	case errors.Is(cause, errLifetime):
		x.fail(http.StatusGatewayTimeout, codeUpstreamTimeout, "The service behind this domain did not answer in the time that a request may take.")
		return
	case x.body.failed():
		x.fail(http.StatusBadRequest, models.CodeMalformed, "The body could not be read to its end.")
		return
	}
	x.logger().WarnContext(ctx, "an upstream gave no answer that can be passed on", "error", err)
	switch {
	case errors.Is(err, errUpstreamAuth):
		x.fail(http.StatusBadGateway, codeUpstreamAuth, "The service behind this domain refused the gateway's own credential. Your token is not at fault.")
	case isNet && netErr.Timeout() && !(isOp && opErr.Op == "dial"):
		x.fail(http.StatusGatewayTimeout, codeUpstreamTimeout, "The service behind this domain did not answer in time.")
	default:
		x.fail(http.StatusBadGateway, codeUpstreamUnavailable, "The service behind this domain cannot be reached, or gave no proper answer.")
	}
}

// deniedMeanwhile answers a request that was allowed but no longer was before the
// upstream answered. The decision says why; if it has changed once more, the
// client may try again.
func (x *exchange) deniedMeanwhile(ctx context.Context) {
	d := x.p.Decide(ctx, x.judged, models.Request{Domain: x.domain})
	if d.Allowed {
		x.fail(http.StatusServiceUnavailable, models.CodeUnavailable, "What this request is allowed to do changed while it waited. Try again.")
		return
	}
	x.deny(request.Refusal{Decision: d, Asked: x.p.Request()})
}

// bodyReader remembers how the client's body ended, so that its failure is not
// blamed on the upstream. The transport may read it while the handler asks.
type bodyReader struct {
	io.ReadCloser
	control *http.ResponseController // of the connection

	mu  sync.Mutex
	err error // the first one, io.EOF included
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.mu.Lock()
		b.err = cmp.Or(b.err, err)
		b.mu.Unlock()
	}
	return n, err
}

// ended reports whether the body was read to its end.
func (b *bodyReader) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.err, io.EOF)
}

// failed reports whether the body could not be read to its end.
func (b *bodyReader) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && !errors.Is(b.err, io.EOF)
}

// bufferPool holds the buffers that answers are copied through.
type bufferPool struct{ free sync.Pool }

var buffers = &bufferPool{}

// Get returns a buffer.
func (p *bufferPool) Get() []byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

// Put takes a buffer back.
func (p *bufferPool) Put(b []byte) { p.free.Put(&b) }
