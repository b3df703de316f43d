package server

import (
	"encoding/base32"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"patrol/models"
	"patrol/server/request"
)

// serve is the outermost handler: it gives the request its id, finds out who the
// client is, and accounts for the answer, a panic's too.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	x := &request.Exchange{ResponseWriter: w, ID: s.requestID(r, start), RequestHeader: r.Header, Peer: request.PeerOf(r), Places: s.places}
	x.Client = s.trusted.Client(x.Peer, r.Header)
	w.Header()["X-Request-Id"] = []string{x.ID}
	if s.stopping.Load() && r.Header["Upgrade"] == nil {
		w.Header()["Connection"] = closeValue // let the next one go elsewhere
	}
	s.hsts.tell(w.Header(), r)
	peer := r.RemoteAddr
	r = r.WithContext(request.With(r.Context(), x))
	if x.Client.IsValid() && len(s.trusted) > 0 {
		// The gateway reads the client's address here. The port is not known.
		r.RemoteAddr = netip.AddrPortFrom(x.Client, 0).String()
	}
	defer func() {
		cause := recover()
		x.Leave()
		cut := cause != nil && s.recovered(x, r, cause)
		s.account(x, r, peer, time.Since(start))
		if cut {
			panic(http.ErrAbortHandler)
		}
	}()

	if m, mount := s.mounted(r); m != nil {
		x.Route = m.Known()
		// The timeouts of API requests hold here too, until what is mounted sets others.
		mount.ServeHTTP(x, r)
		return
	}
	if len(r.Header["Authorization"]) > 1 { // what is mounted sees to it itself
		request.WriteError(x, r, models.NewError(models.CodeMalformed, "the request has more than one Authorization header"))
		return
	}
	request.Secure(w.Header())
	s.gin.ServeHTTP(x, r)
}

// recovered turns a panic into a 500. It reports whether the connection must be
// cut instead, because an answer was already begun. http.ErrAbortHandler is not a
// defect: it asks for the cut.
func (s *Server) recovered(x *request.Exchange, r *http.Request, cause any) (cut bool) {
	if cause == http.ErrAbortHandler { //nolint:errorlint // it is compared by identity, as net/http does
		return true
	}
	s.logPanic(r, cause)
	if x.Status != 0 {
		return true
	}
	x.Header()["Connection"] = closeValue // nobody knows how far the body was read
	request.WriteError(x, r, models.NewError(models.CodeInternal, "a handler panicked"))
	return false
}

func (s *Server) logPanic(r *http.Request, cause any) {
	s.log.ErrorContext(r.Context(), "a handler panicked", "request_id", request.ID(r.Context()), "panic", cause, "stack", string(debug.Stack()))
}

// account writes the access log and the metrics. Paths, queries and header
// values stay out of both: they can hold anything.
func (s *Server) account(x *request.Exchange, r *http.Request, peer string, took time.Duration) {
	status := x.Status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.answered(x.Route.Name(), r.Method, status, took)

	level := slog.LevelInfo
	switch {
	case x.Cause != nil:
		level = slog.LevelError
	case x.Route != nil && x.Route.Quiet && status < http.StatusInternalServerError:
		level = slog.LevelDebug
	}
	ctx := r.Context()
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("request_id", x.ID),
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", x.Route.Name()),
		slog.Int("status", status),
		slog.Duration("duration", took),
		slog.String("client", x.Client.String()),
	)
	if len(s.trusted) > 0 {
		attrs = append(attrs, slog.String("peer", peer))
	}
	if x.UserID != "" {
		attrs = append(attrs, slog.String("user_id", x.UserID))
	}
	if x.Cause != nil {
		attrs = append(attrs, slog.Any("error", x.Cause))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// requestID returns the id that the client sent, if it is one. Otherwise it draws one, which
// begins with the time: what is filed under ids of about the same time lies together.
func (s *Server) requestID(r *http.Request, now time.Time) string {
	if sent := r.Header["X-Request-Id"]; len(sent) == 1 && request.ValidID(sent[0]) {
		return sent[0]
	}
	var raw [15]byte
	binary.BigEndian.PutUint64(raw[:], uint64(now.UnixMilli())<<16)
	if _, err := io.ReadFull(s.random, raw[6:]); err != nil {
		panic(err) // crypto/rand never fails; it ends the program instead
	}
	return requestIDs.EncodeToString(raw[:])
}

var requestIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var closeValue = []string{"close"}
