package request

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"patrol/api"
	"patrol/models"
	"patrol/server/deadline"
)

// Exchange is one request and its answer, as the log, the metrics and every handler see
// it. It stands between the handlers and the connection.
type Exchange struct {
	http.ResponseWriter
	ID            string
	Client        netip.Addr  // after trusted proxies were asked; invalid if unknown
	Peer          netip.Addr  // at the other end of the connection; likewise
	RequestHeader http.Header // with names in canonical form
	Route         *Route      // nil: none matched
	Places        Places
	UserID        string // once known
	Status        int    // 0 until the header is written
	Cause         error  // of a 5xx answer, for the log
	Warnings      models.Warnings

	leave func() // gives back the place that it has; nil: it has none
}

// Route is the part of the matched entry of the route table that an exchange needs.
type Route struct {
	Path   string
	Quiet  bool // successes stay out of the access log unless it is at debug level
	Mount  bool // what is served under the path is no handler of the router
	Always bool // answered, however much is under way
	// Judges says that the handler judges a token, and takes a place for it itself.
	Judges bool
	Open   bool // anyone may call it
}

// Name is the route in logs and metrics; "" if no route matched.
func (r *Route) Name() string {
	if r == nil {
		return ""
	}
	return r.Path
}

type exchangeKey struct{}

// With returns a context that belongs to x.
func With(ctx context.Context, x *Exchange) context.Context {
	return models.WithWarnings(context.WithValue(ctx, exchangeKey{}, x), &x.Warnings)
}

// Of returns the exchange of a request that came through the server's handler.
func Of(ctx context.Context) *Exchange {
	return ctx.Value(exchangeKey{}).(*Exchange)
}

// ID returns the id of the request that ctx belongs to, the one in its answer and log
// lines, or "" outside of a request.
func ID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*Exchange); ok {
		return x.ID
	}
	return ""
}

// Peer returns the address at the other end of a request's connection, whatever headers
// say, or an invalid one if it has none. r must have come through the server's handler.
func Peer(r *http.Request) netip.Addr { return Of(r.Context()).Peer }

// WriteHeader notes the status. Informational answers pass.
func (x *Exchange) WriteHeader(status int) {
	if x.Status == 0 && status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		x.Status = status
		x.warn()
	}
	x.ResponseWriter.WriteHeader(status)
}

// warn tells of what went wrong beside what was done.
func (x *Exchange) warn() {
	for _, text := range x.Warnings.Texts() {
		x.Header().Add(api.WarningHeader, text)
	}
}

func (x *Exchange) Write(b []byte) (int, error) {
	if x.Status == 0 {
		x.Status = http.StatusOK
		x.warn()
	}
	return x.ResponseWriter.Write(b)
}

// Flush sends what was written so far.
func (x *Exchange) Flush() {
	if x.Status == 0 {
		x.Status = http.StatusOK
	}
	_ = http.NewResponseController(x.ResponseWriter).Flush() // no writer of net/http lacks it
}

// Unwrap leads http.ResponseController to the connection.
func (x *Exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// maxAgent bounds what is kept of a User-Agent.
const maxAgent = 200

// Actor says for the audit log who acts in this exchange.
func (x *Exchange) Actor(kind models.ActorKind, userID, tokenID string) models.Actor {
	a := models.Actor{
		Kind: kind, UserID: userID, TokenID: tokenID,
		UserAgent: Truncate(models.MaskTokens(x.RequestHeader.Get("User-Agent")), maxAgent), RequestID: x.ID,
	}
	if x.Client.IsValid() {
		a.IP = x.Client.String()
	}
	return a
}

// Truncate cuts s to at most n bytes of valid UTF-8.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Places bound the requests that are being worked on: from the moment when their body is
// there, so that nobody takes one by sending slowly, to their answer. Decisions have as
// many as all the rest, so that neither keeps the other out.
type Places struct {
	Decisions, Rest *deadline.Budget
}

// NewPlaces makes n places of each kind. Of those for decisions, a quarter is for
// tokens that have verified here, and of the rest one address can take three
// quarters.
func NewPlaces(n int) Places {
	share := max(1, int64(n)*3/4)
	return Places{Decisions: deadline.NewBudget(int64(n), share), Rest: deadline.NewBudget(int64(n), share)}
}

// ErrBusy is the answer where there is no place.
var ErrBusy = &models.Error{Code: models.CodeUnavailable, Message: "too many requests are being answered", RetryAfter: 1}

// Enter takes a place for a request that is no decision, if it has none yet. It is given
// back at the end of the exchange.
func (x *Exchange) Enter() error {
	if x.leave != nil || x.Route != nil && (x.Route.Always || x.Route.Judges) {
		return nil
	}
	rest, from := x.Places.Rest, x.Client.String()
	if rest.Take(from, 1) != nil {
		return ErrBusy
	}
	x.leave = func() { rest.Give(from, 1) }
	return nil
}

// EnterToDecide takes a place for decisions about a token. A batch takes one: its items are
// judged one after the other. verified reports whether a token has verified here.
func (x *Exchange) EnterToDecide(token string, verified func(token string) (id string, ok bool)) error {
	decisions, by := x.Places.Decisions, ""
	err := decisions.Take(by, 1)
	if errors.Is(err, deadline.ErrShare) {
		if id, ok := verified(token); ok {
			by = id
			err = decisions.Take(by, 1)
		}
	}
	if err != nil {
		return ErrBusy
	}
	x.leave = func() { decisions.Give(by, 1) }
	return nil
}

// Leave gives back the place that the exchange has.
func (x *Exchange) Leave() {
	if x.leave != nil {
		x.leave()
	}
}
