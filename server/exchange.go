package server

import (
	"context"
	"encoding/base32"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// exchange is one request and its answer, as the log, the metrics and every
// handler see it. It stands between the handlers and the connection.
type exchange struct {
	http.ResponseWriter
	server    *Server
	requestID string
	client    netip.Addr // after trusted proxies were asked; invalid if unknown
	peer      netip.Addr // at the other end of the connection; likewise
	route     *route     // nil: none matched
	userID    string     // once known
	status    int        // 0 until the header is written
	cause     error      // of a 5xx answer, for the log
	warnings  models.Warnings
	header    http.Header // of the request
	leave     func()      // gives back the place that it has; nil: it has none
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request that came through
// [Server.Handler].
func exchangeOf(ctx context.Context) *exchange {
	return ctx.Value(exchangeKey{}).(*exchange)
}

// RequestID returns the id of the request that ctx belongs to, the one in its
// answer and log lines, or "" outside of a request.
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.requestID
	}
	return ""
}

// Peer returns the address at the other end of a request's connection, whatever
// headers say, or an invalid one if it has none. r must have come through
// [Server.Handler].
func Peer(r *http.Request) netip.Addr { return exchangeOf(r.Context()).peer }

// WriteHeader notes the status. Informational answers pass.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		x.status = status
		x.warn()
	}
	x.ResponseWriter.WriteHeader(status)
}

// warn tells of what went wrong beside what was done.
func (x *exchange) warn() {
	for _, text := range x.warnings.Texts() {
		x.Header().Add(api.WarningHeader, text)
	}
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
		x.warn()
	}
	return x.ResponseWriter.Write(b)
}

// Flush sends what was written so far.
func (x *exchange) Flush() {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	_ = http.NewResponseController(x.ResponseWriter).Flush() // no writer of net/http lacks it
}

// Unwrap is how http.ResponseController reaches the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// actor is who acts in this exchange, for the audit log.
func (x *exchange) actor(r *http.Request, kind models.ActorKind, userID, tokenID string) models.Actor {
	a := models.Actor{
		Kind: kind, UserID: userID, TokenID: tokenID,
		UserAgent: truncate(models.MaskTokens(r.UserAgent()), 200), RequestID: x.requestID,
	}
	if x.client.IsValid() {
		a.IP = x.client.String()
	}
	return a
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// serve is the outermost handler: it gives the request its id, finds out who the
// client is, and accounts for the answer, a panic's too.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	x := &exchange{ResponseWriter: w, server: s, requestID: s.requestID(r), header: r.Header, peer: request.PeerOf(r)}
	x.client = s.trusted.Client(x.peer, r.Header)
	w.Header()["X-Request-Id"] = []string{x.requestID}
	if s.stopping.Load() && r.Header["Upgrade"] == nil {
		w.Header()["Connection"] = closeValue // let the next one go elsewhere
	}
	if s.hsts {
		w.Header()["Strict-Transport-Security"] = hstsValue
	}
	peer := r.RemoteAddr
	r = r.WithContext(models.WithWarnings(context.WithValue(r.Context(), exchangeKey{}, x), &x.warnings))
	if x.client.IsValid() && len(s.trusted) > 0 {
		// The gateway reads the client's address here. The port is not known.
		r.RemoteAddr = netip.AddrPortFrom(x.client, 0).String()
	}
	defer func() {
		cause := recover()
		if x.leave != nil {
			x.leave()
		}
		cut := cause != nil && s.recovered(x, r, cause)
		s.account(x, r, peer, time.Since(start))
		if cut {
			panic(http.ErrAbortHandler)
		}
	}()

	if m, mount := s.mounted(r); m != nil {
		x.route = m
		// The timeouts of API requests hold here too, until what is mounted sets others.
		mount.ServeHTTP(x, r)
		return
	}
	if len(r.Header["Authorization"]) > 1 { // what is mounted sees to it itself
		WriteError(x, r, models.NewError(models.CodeMalformed, "the request has more than one Authorization header"))
		return
	}
	s.secure(w.Header())
	s.gin.ServeHTTP(x, r)
}

// recovered turns a panic into a 500. It reports whether the connection must be
// cut instead, because an answer was already begun. http.ErrAbortHandler is not a
// defect: it asks for the cut.
func (s *Server) recovered(x *exchange, r *http.Request, cause any) (cut bool) {
	if cause == http.ErrAbortHandler { //nolint:errorlint // it is compared by identity, as net/http does
		return true
	}
	s.logPanic(r, cause)
	if x.status != 0 {
		return true
	}
	x.Header()["Connection"] = closeValue // nobody knows how far the body was read
	WriteError(x, r, models.NewError(models.CodeInternal, "a handler panicked"))
	return false
}

func (s *Server) logPanic(r *http.Request, cause any) {
	s.log.ErrorContext(r.Context(), "a handler panicked", "request_id", RequestID(r.Context()), "panic", cause, "stack", string(debug.Stack()))
}

// account writes the access log and the metrics. Paths, queries and header
// values stay out of both: they can hold anything.
func (s *Server) account(x *exchange, r *http.Request, peer string, took time.Duration) {
	status := x.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.answered(x.route, r.Method, status, took)

	level := slog.LevelInfo
	switch {
	case x.cause != nil:
		level = slog.LevelError
	case x.route != nil && x.route.quiet && status < http.StatusInternalServerError:
		level = slog.LevelDebug
	}
	ctx := r.Context()
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("request_id", x.requestID),
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", x.route.name()),
		slog.Int("status", status),
		slog.Duration("duration", took),
		slog.String("client", x.client.String()),
	)
	if len(s.trusted) > 0 {
		attrs = append(attrs, slog.String("peer", peer))
	}
	if x.userID != "" {
		attrs = append(attrs, slog.String("user_id", x.userID))
	}
	if x.cause != nil {
		attrs = append(attrs, slog.Any("error", x.cause))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// requestID returns the id that the client sent, if it is one. Otherwise it draws one.
func (s *Server) requestID(r *http.Request) string {
	if sent := r.Header["X-Request-Id"]; len(sent) == 1 && request.ValidID(sent[0]) {
		return sent[0]
	}
	var raw [15]byte
	if _, err := io.ReadFull(s.random, raw[:]); err != nil {
		panic(err) // crypto/rand never fails; it ends the program instead
	}
	return requestIDs.EncodeToString(raw[:])
}

var requestIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// The headers of every answer of the API (OWASP REST Security Cheat Sheet). The
// slices are shared; nothing may write into them. With a length equal to their
// capacity, Header.Add copies.
var (
	noStore    = []string{"no-store"}
	noSniff    = []string{"nosniff"}
	noFraming  = []string{"DENY"}
	noReferrer = []string{"no-referrer"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	sameOrigin = []string{"same-origin"}
	hstsValue  = []string{"max-age=31536000"}
	closeValue = []string{"close"}
)

func (s *Server) secure(h http.Header) {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["X-Frame-Options"] = noFraming
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = noContent
	h["Cross-Origin-Resource-Policy"] = sameOrigin
}
