package forwardauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"patrol/models"
	"patrol/server/check"
	"patrol/server/deadline"
	"patrol/server/request"
)

// surface names this package in decisions and their metrics.
const surface = "forwardauth"

// Deps has the parts that a [Handler] uses.
type Deps struct {
	Authz check.Authorizer
	// Peer returns the address that a request's connection comes from, whatever
	// headers say. nil: from the request's RemoteAddr.
	Peer   func(*http.Request) netip.Addr
	Logger *slog.Logger // nil: slog.Default
}

// Handler answers proxies. It judges request targets as they were sent, so what
// routes to it must not have rewritten them. It takes the request id from the
// X-Request-Id that the answer's header already has.
type Handler struct {
	cfg      Config
	authz    check.Authorizer
	peer     func(*http.Request) netip.Addr
	log      *slog.Logger
	speakers speakers
	gate     *deadline.Gate
	room     *deadline.Budget // for bodies
	refusals request.Refusals
	remove   string // what Envoy is told to remove, always
}

// New returns a handler. It fails if cfg is not valid.
func New(cfg Config, deps Deps) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("forward-auth: %w", err)
	}
	if deps.Authz == nil {
		return nil, errors.New("forward-auth: there is nobody to decide")
	}
	h := &Handler{cfg: cfg, authz: deps.Authz, peer: deps.Peer, log: deps.Logger, refusals: request.Refusals{Pages: cfg.PagesURL}}
	if h.log == nil {
		h.log = slog.Default()
	}
	if h.peer == nil {
		h.peer = request.PeerOf
	}
	h.gate = deadline.NewGate(cfg.limits(), func(value any, stack []byte) {
		h.log.Error("judging a proxy's question panicked", "panic", value, "stack", string(stack))
	})
	room := max(cfg.MaxReceiving, 2*(cfg.MaxBodyBytes+firstBuffer))
	h.room = deadline.NewBudget(room, room)
	h.remove = strings.Join(append([]string{request.HeaderGuardrails}, cfg.RemoveHeaders...), ", ")
	var err error
	h.speakers, err = parsePeers(cfg.Peers)
	return h, err
}

// ServeHTTP answers one question.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// What has not come by then is not waited for: the server answers without it,
		// and closes the connection. A writer that has no deadlines has no connection.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(h.cfg.Timeout))
		body := &arriving{ReadCloser: r.Body}
		r = r.WithContext(r.Context()) // a copy: the body is the server's
		r.Body = body
		defer body.stop(func() { _ = control.SetReadDeadline(time.Now()) })
	}
	peer := h.peer(r)
	dialect := h.speakers.dialect(peer)
	defer func() {
		if cause := recover(); cause != nil {
			// A 500 could be taken for a reason to let the request pass.
			h.log.Error("answering a proxy panicked", "panic", cause, "stack", string(debug.Stack()))
			h.deny(w, r, dialect, nil, check.Verdict{Decision: models.Deny(models.Unavailable)})
		}
	}()
	if dialect == "" {
		h.log.WarnContext(r.Context(), "somebody asked who is not configured as a proxy", "peer", peer.String())
		h.refuse(w, r, "Only proxies that are configured here may ask.")
		return
	}
	q, err := h.read(dialect, r, peer)
	if err != nil {
		h.log.WarnContext(r.Context(), "a question was refused", "peer", peer.String(), "dialect", dialect, "error", err)
		h.refuse(w, r, "The request carries headers that only a proxy may send, or lacks those of the proxy that asks.")
		return
	}
	q.RequestID = w.Header().Get("X-Request-Id")
	v, err := deadline.DoFor(r.Context(), h.gate, func() bool { return q.Known(h.authz) }, func(ctx context.Context) check.Verdict {
		defer func() { h.room.Give("", q.Taken) }()
		return q.Judge(ctx, h.authz, h.log)
	})
	if err != nil {
		v = check.Verdict{Decision: models.Deny(models.Unavailable)}
		v.Decision.ID = models.NewID()
		h.log.WarnContext(r.Context(), "a request was refused without being judged", "decision_id", v.Decision.ID, "dialect", dialect, "error", err)
	}
	if v.Malformed == "" && v.Decision.Allowed {
		h.allow(w, dialect, q, v)
		return
	}
	h.deny(w, r, dialect, q, v)
}

// allow tells the proxy to let the request pass and what to tell the upstream.
func (h *Handler) allow(w http.ResponseWriter, d Dialect, q *check.Request, v check.Verdict) {
	header := w.Header()
	request.Identify(header, v.Decision, v.Request.Domain)
	header.Set(request.HeaderDecision, v.Decision.ID)
	header.Set("X-Patrol-Scope-Id", v.Decision.ScopeID)
	header.Set("X-Patrol-Revision", v.Decision.Revision)
	header.Set("Cache-Control", "no-store")
	if d == Envoy {
		// Envoy keeps no answers, and can be told to add this one's headers to its client's.
		// Others would send them to the upstream.
		if !v.Expires.IsZero() {
			header.Set(request.HeaderTokenExpires, request.FormatExpiry(v.Expires))
		}
		if header.Del("Cache-Control"); v.Keyed {
			header.Set("Cache-Control", "private")
		}
		remove := []string{h.remove}
		for name := range q.Header {
			foreign := request.Foreign(name) && !slices.ContainsFunc(h.cfg.KeepHeaders, func(keep string) bool { return strings.EqualFold(keep, name) })
			if (request.Reserved(name) || foreign) && header[name] == nil {
				remove = append(remove, name)
			}
		}
		if q.Keys != check.NoKeys {
			for _, e := range request.KeyEdits(q.Header) {
				if slices.Contains(request.KeyHeaders[:], e.Name) {
					remove = append(remove, e.Name)
				}
			}
		}
		slices.Sort(remove[1:])
		header.Set("X-Envoy-Auth-Headers-To-Remove", strings.Join(remove, ", "))
	}
	header.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// deny tells the proxy what to tell its client. q is nil if it could not be read.
func (h *Handler) deny(w http.ResponseWriter, r *http.Request, d Dialect, q *check.Request, v check.Verdict) {
	client := h.client(w, r)
	if q != nil {
		client.Target, client.Header = q.Target, q.Header
	}
	refusals := h.refusals
	refusals.Told = func(status int) int { return h.told(d, status) }
	a := v.Answer(refusals, client)
	if d == Envoy {
		// Envoy takes any answer with it for the begin of another protocol, and waits
		// for that until its timeout.
		a.Header.Del("Connection")
	}
	if d == Nginx { // which drops the body
		a.InHeader()
	}
	a.WriteTo(w)
}

// told returns the status that a proxy is told in the place of status. Envoy takes
// every 5xx for a failure of this service. nginx knows 401 and 403, and makes 500 of
// every other status; 503 is left to it, since its configuration can tell.
func (h *Handler) told(d Dialect, status int) int {
	switch {
	case d == Envoy && status == http.StatusServiceUnavailable:
		return h.cfg.EnvoyUnavailable
	case d == Nginx && status != http.StatusUnauthorized && status != http.StatusServiceUnavailable:
		return http.StatusForbidden
	}
	return status
}

// refuse answers somebody who may not ask, or not like this.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, detail string) {
	h.refusals.Failed(h.client(w, r), http.StatusForbidden, models.CodeForbidden, detail).WriteTo(w)
}

func (*Handler) client(w http.ResponseWriter, r *http.Request) request.Client {
	return request.Client{Target: r.RequestURI, Header: r.Header, RequestID: w.Header().Get("X-Request-Id")}
}
