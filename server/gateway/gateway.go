package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/deadline"
	"patrol/server/request"
	"patrol/server/route"
)

// Authorizer is the part of [authz.Authorizer] that the gateway needs.
type Authorizer[P Proxied] interface {
	// Begin verifies the token of a request before anything else of it is looked
	// at. If ok is false, d is the answer.
	Begin(ctx context.Context, call authz.Call) (p P, d models.Decision, ok bool)
	// Verified reports whether a token has verified here before and does now, by its
	// secret alone.
	Verified(token string) (id string, ok bool)
}

// Proxied is the part of [authz.Proxied] that the gateway needs, with its contract.
type Proxied interface {
	Hints(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, websocket bool, err error)
	Names(ctx context.Context, r models.HTTPRequest, fixed models.Request) []authz.Name
	Maps(ctx context.Context, method string, r models.HTTPRequest) bool
	Decide(ctx context.Context, r models.HTTPRequest, fixed models.Request) models.Decision
	Refuse(ctx context.Context, reason models.Reason) models.Decision
	Admit(ctx context.Context) (d models.Decision, ok bool)
	TokenID() string
	Request() models.Request
	Expires() time.Time
	Hold(ctx context.Context) (held context.Context, stop func())
}

// Gateway is the handler of /proxy/{domain}/. It judges request targets as they
// were sent, so what routes to it must not have rewritten them.
//
// It takes the client's address from the request's RemoteAddr and the request id
// from the X-Request-Id that the answer's header already has; both are for the
// server around it to set.
type Gateway struct {
	cfg       Config
	begin     func(context.Context, authz.Call) (Proxied, models.Decision, bool)
	log       *slog.Logger
	refusals  request.Refusals
	public    *url.URL // nil: not configured
	targets   map[string]*target
	dialer    net.Dialer
	transport *http.Transport
	bodies    *bodies
	places    *deadline.Budget // for requests, by token once that has verified
	verified  func(token string) (id string, ok bool)
	fresh     *http.Transport // uses each connection once
	mu        sync.Mutex
	keeping   map[string]*keeping // by address
	// scans holds a place for each large body that is looked at now, so that many
	// of them do not take memory at a time.
	scans chan struct{}
	cors  cors
}

// New returns a gateway. It fails if cfg is not valid.
func New[P Proxied](cfg Config, a Authorizer[P], log *slog.Logger) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, log: log, refusals: request.Refusals{Pages: cmp.Or(cfg.PagesURL, cfg.PublicURL)},
		begin: func(ctx context.Context, call authz.Call) (Proxied, models.Decision, bool) {
			return a.Begin(ctx, call)
		},
		targets: make(map[string]*target, len(cfg.Upstreams)),
		bodies:  newBodies(cfg),
		places:  deadline.NewBudget(int64(cfg.MaxInFlight), max(1, int64(cfg.MaxInFlight)*3/4)), verified: a.Verified,
		scans:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		dialer:  net.Dialer{Timeout: cfg.DialTimeout},
		keeping: map[string]*keeping{},
		cors:    newCORS(cfg),
	}
	g.transport = &http.Transport{
		Proxy:                  nil, // see the package comment
		DialContext:            g.dial,
		TLSHandshakeTimeout:    cfg.DialTimeout,
		ResponseHeaderTimeout:  cfg.HeaderTimeout,
		IdleConnTimeout:        cfg.IdleTimeout,
		MaxIdleConnsPerHost:    cfg.MaxIdle,
		MaxResponseHeaderBytes: 256 << 10,
		ExpectContinueTimeout:  continueTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the client's Accept-Encoding and the upstream's answer pass as they are
	}
	g.fresh = g.transport.Clone()
	g.fresh.DisableKeepAlives = true
	if cfg.PublicURL != "" {
		g.public, _ = parseBase(cfg.PublicURL)
	}
	for domain, u := range cfg.Upstreams {
		g.targets[domain] = newTarget(u)
	}
	return g, nil
}

// Close closes the connections to upstreams that are not in use.
func (g *Gateway) Close() {
	g.transport.CloseIdleConnections()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range g.keeping {
		k.close()
	}
}

// ServeHTTP judges r and forwards or refuses it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{g: g, w: w, r: r, body: &bodyReader{ReadCloser: r.Body, control: http.NewResponseController(w)}, requestID: w.Header().Get("X-Request-Id")}
	defer x.open()()
	if x.g.cors.admit(w.Header(), r) {
		x.preflight()
		return
	}
	token, problem := x.token()
	if problem != "" {
		x.fail(http.StatusBadRequest, models.CodeMalformed, problem)
		return
	}
	by, ok := g.enter(token)
	if !ok {
		x.later(http.StatusServiceUnavailable, models.CodeUnavailable, "Too many requests are under way here. Try again shortly.")
		return
	}
	defer func() { g.places.Give(by, 1) }()
	x.judged, x.ambiguity = route.ParseToForward(r.Method, r.RequestURI, r.Header)
	if x.ambiguity == nil {
		x.domain, x.ambiguity = domainOf(x.judged)
	}
	call := authz.Call{
		Token: token, Request: models.Request{Domain: x.domain},
		Surface: "gateway", KeepsNames: true, RequestID: x.requestID, IP: request.PeerOf(r), UserAgent: models.MaskTokens(r.UserAgent()),
	}
	ctx := r.Context()
	p, d, ok := g.begin(ctx, call)
	if !ok {
		x.deny(request.Refusal{Decision: d, Asked: call.Request})
		return
	}
	x.p = p
	if g.places.Move(by, p.TokenID(), 1) != nil {
		x.w.Header().Set("Retry-After", "1")
		x.refuse(ctx, models.Reason{Code: models.RateLimited, Message: "This token has too many requests under way. Try again shortly."}, nil)
		return
	}
	by = p.TokenID()
	if x.judge(ctx) {
		x.forward(ctx)
	}
}

// token returns the access token that the request presents, and why nobody can tell which one
// counts.
func (x *exchange) token() (token, problem string) {
	if x.g.cfg.KeyHeaders {
		p, problem := request.Present(x.r.Header, true)
		x.keyed = p.Keyed
		return p.Token, problem
	}
	token, ok := request.Bearer(x.r.Header)
	if !ok {
		return "", request.TwoAuthorizations
	}
	return token, ""
}

// stranger holds the places of those whose token has not verified yet: three quarters
// at most, like everybody.
const stranger = ""

// enter takes a place for a request that shows a token.
func (g *Gateway) enter(token string) (by string, ok bool) {
	err := g.places.Take(stranger, 1)
	if errors.Is(err, deadline.ErrShare) {
		if id, known := g.verified(token); known {
			return id, g.places.Take(id, 1) == nil
		}
	}
	return stranger, err == nil
}

// domainOf returns the domain in a path below /proxy/.
func domainOf(r models.HTTPRequest) (string, error) {
	if len(r.Segments) < 2 || r.Segments[0] != "proxy" {
		return "", fmt.Errorf("%w: the path is not /proxy/{domain}/…", route.ErrAmbiguous)
	}
	return r.Segments[1], nil
}

// exchange is one request on its way through the gateway.
type exchange struct {
	g *Gateway
	w http.ResponseWriter
	r *http.Request
	p Proxied
	// body is the client's.
	body      *bodyReader
	requestID string
	judged    models.HTTPRequest
	ambiguity error  // why judged is not to be used
	domain    string // of the path
	keyed     bool   // the token stands in another header than Authorization
	noUpgrade bool   // the client asks for an upgrade that is passed over
	kept      *kept  // the body, if it was read
	decision  models.Decision
	told      bool // the answer is ours, not an upstream's
	closing   bool // and says that the connection is closed
}

// open lifts the limits that the server around sets for requests that are soon
// over. The function it returns is for the end of the handler.
func (x *exchange) open() (end func()) {
	// A writer that cannot do one of these has no connection underneath for which
	// it would matter, or is HTTP/2 and needs it not.
	control := x.body.control
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	if x.r.ContentLength != 0 {
		// Otherwise HTTP/1 would read what there is of the body before it sends
		// the first byte of an answer.
		_ = control.EnableFullDuplex()
	}
	return func() {
		if x.kept != nil {
			x.kept.close()
		}
		x.leave()
	}
}

// judge has the request judged. If it is not to be forwarded, judge answers it
// and returns false.
func (x *exchange) judge(ctx context.Context) bool {
	if x.ambiguity != nil {
		return x.refuse(ctx, route.Reason(x.ambiguity), x.ambiguity)
	}
	if x.r.Header["Service-Worker"] != nil { // a browser asks for a program that would rule over this origin
		err := fmt.Errorf("%w: nothing here may become a service worker", route.ErrAmbiguous)
		return x.refuse(ctx, route.Reason(err), err)
	}
	need, websocket, err := x.p.Hints(ctx, x.judged)
	if err != nil {
		x.logger().ErrorContext(ctx, "the policy could not say how to treat a route", "error", err)
		return x.refuse(ctx, models.Because(models.PolicyError), nil)
	}
	if err := x.checkUpgrade(websocket); err != nil {
		x.logger().DebugContext(ctx, "a request was not judged", "error", err)
		x.deny(request.Refusal{
			Decision: x.p.Refuse(ctx, route.Reason(err)), Asked: x.p.Request(), NotWebSocket: errors.Is(err, errNoWebSocket) &&
				x.r.Method == http.MethodGet && !x.p.Maps(ctx, http.MethodGet, x.judged) && x.p.Maps(ctx, http.MethodPost, x.judged),
		})
		return false
	}
	if need != nil && !x.readBody(ctx, need) {
		return false
	}
	switch err := x.respell(ctx, need); {
	case errors.Is(err, route.ErrAmbiguous):
		return x.refuse(ctx, route.Reason(err), err)
	case err != nil:
		return x.notKept(ctx, err)
	}
	x.decision = x.p.Decide(ctx, x.judged, models.Request{Domain: x.domain})
	if !x.decision.Allowed {
		x.deny(request.Refusal{Decision: x.decision, Asked: x.p.Request()})
		return false
	}
	// Whatever is told to the upstream about the domain, and which upstream that
	// is, hangs on the path's domain having been judged.
	if judged := x.p.Request().Domain; judged != x.domain {
		x.logger().ErrorContext(ctx, "a domain other than the path's was judged")
		return x.refuse(ctx, models.Because(models.PolicyError), nil)
	}
	if err := models.CheckPolicyHeaders(x.decision.Headers); err != nil {
		x.logger().ErrorContext(ctx, "the policy sets a header that it cannot set", "error", err)
		return x.refuse(ctx, models.Because(models.PolicyError), nil)
	}
	return true
}

// refuse answers with a denial that was found here. It returns false.
func (x *exchange) refuse(ctx context.Context, reason models.Reason, why error) bool {
	if why != nil {
		x.logger().DebugContext(ctx, "a request was not judged", "error", why)
	}
	x.deny(request.Refusal{Decision: x.p.Refuse(ctx, reason), Asked: x.p.Request()})
	return false
}

func (x *exchange) logger() *slog.Logger {
	return x.g.log.With("request_id", x.requestID, "domain", x.domain)
}

// readBody reads the body of a token that is good and finds what it names. If it
// cannot, it answers and returns false.
func (x *exchange) readBody(ctx context.Context, need *models.BodyNeed) bool {
	if d, ok := x.p.Admit(ctx); !ok {
		x.deny(request.Refusal{Decision: d, Asked: x.p.Request()})
		return false
	}
	limit := x.g.cfg.MaxJSONBody
	if need.Format == models.BodyMultipart {
		limit = x.g.cfg.MaxMultipartBody
	}
	kept, err := x.keepBody(limit)
	switch netErr, isNet := errors.AsType[net.Error](err); {
	case errors.Is(err, errTooLarge):
		return x.refuse(ctx, models.Reason{
			Code: models.BodyTooLarge, Message: fmt.Sprintf("The body is larger than the %d bytes that can be looked at on this route.", limit),
		}, err)
	case errors.Is(err, deadline.ErrShare):
		x.w.Header().Set("Retry-After", "1")
		return x.refuse(ctx, models.Reason{
			Code: models.RateLimited, Message: "This token has too many requests under way whose bodies are looked at. Try again shortly.",
		}, err)
	case errors.Is(err, deadline.ErrSpent):
		x.w.Header().Set("Retry-After", "1")
		return x.refuse(ctx, models.Reason{Code: models.Unavailable, Message: "Too many bodies are looked at now. Try again shortly."}, err)
	case errors.Is(err, errKeep):
		return x.notKept(ctx, err)
	case isNet && netErr.Timeout():
		x.fail(http.StatusRequestTimeout, models.CodeMalformed, "The body took too long to arrive.")
		return false
	case err != nil:
		x.fail(http.StatusBadRequest, models.CodeMalformed, "The body could not be read to its end.")
		return false
	}
	x.kept = kept
	if kept.size == 0 {
		return true // nothing to look at: the entity is the collection
	}
	if kept.file != nil {
		select {
		case x.g.scans <- struct{}{}:
			defer func() { <-x.g.scans }()
		case <-ctx.Done():
			return x.notKept(ctx, ctx.Err())
		}
	}
	switch err := x.scan(need); {
	case errors.Is(err, route.ErrAmbiguous):
		return x.refuse(ctx, route.Reason(err), err)
	case err != nil:
		return x.notKept(ctx, err)
	}
	return true
}

// scan finds what the kept body names.
func (x *exchange) scan(need *models.BodyNeed) (err error) {
	if x.kept.plain() {
		// The scan looks at these bytes where they are, which are those that are sent.
		x.judged.Body, err = route.ReadBody(need, bytes.NewBuffer(x.kept.memory), x.r.Header)
		return err
	}
	content := x.kept.reader()
	defer func() { _ = content.Close() }() // it only counts
	x.judged.Body, err = route.ReadBody(need, content, x.r.Header)
	return err
}

// later answers a request that there is no room for now.
func (x *exchange) later(status int, code models.Code, detail string) {
	x.w.Header().Set("Retry-After", "1")
	x.fail(status, code, detail)
}

// notKept answers that the disk failed. It returns false.
func (x *exchange) notKept(ctx context.Context, err error) bool {
	x.logger().ErrorContext(ctx, "a body could not be kept", "error", err)
	x.later(http.StatusServiceUnavailable, models.CodeUnavailable, "The body could not be kept here. Try again shortly.")
	return false
}

var errNoWebSocket = fmt.Errorf("%w: this route is not for WebSockets", route.ErrAmbiguous)

// checkUpgrade finds out what the client wants of its connection. Offers to
// speak another HTTP (h2c) are passed over, as RFC 9110 §7.8 allows.
func (x *exchange) checkUpgrade(allowed bool) error {
	upgrade := x.r.Header["Upgrade"]
	if !hasToken(x.r.Header["Connection"], "upgrade") {
		return nil // without that, Upgrade asks for nothing
	}
	if !hasToken(upgrade, "websocket") {
		x.noUpgrade = true
		return nil
	}
	switch {
	case !allowed:
		return errNoWebSocket
	case x.r.Method != http.MethodGet || x.r.ContentLength != 0 || len(upgrade) > 1 || !strings.EqualFold(upgrade[0], "websocket"):
		return fmt.Errorf("%w: this is not a proper WebSocket handshake", route.ErrAmbiguous)
	}
	return nil
}

// hasToken reports whether a comma-separated list has an element, in any case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(element, " \t"), token) {
				return true
			}
		}
	}
	return false
}
