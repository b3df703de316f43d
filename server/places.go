package server

import (
	"errors"

	"patrol/models"
	"patrol/server/deadline"
)

// places are for requests that are being worked on: from the moment when their body
// is there, so that nobody takes one by sending slowly, to their answer. Decisions
// have as many as all the rest, so that neither keeps the other out.
type places struct {
	decisions, rest *deadline.Budget
}

// newPlaces makes n places of each kind. Of those for decisions, a quarter is for
// tokens that have verified here, and of the rest one address can take three
// quarters.
func newPlaces(n int) places {
	share := max(1, int64(n)*3/4)
	return places{decisions: deadline.NewBudget(int64(n), share), rest: deadline.NewBudget(int64(n), share)}
}

// errBusy is the answer where there is no place.
var errBusy = &models.Error{Code: models.CodeUnavailable, Message: "too many requests are being answered", RetryAfter: 1}

// enter takes a place for a request that is no decision, if it has none yet. It is
// given back at the end of the exchange.
func (x *exchange) enter() error {
	if x.leave != nil || x.route != nil && (x.route.always || x.route.by == tokenHolder) {
		return nil
	}
	rest, from := x.server.places.rest, x.client.String()
	if rest.Take(from, 1) != nil {
		return errBusy
	}
	x.leave = func() { rest.Give(from, 1) }
	return nil
}

// enterToDecide takes a place for decisions about a token. A batch takes one: its
// items are judged one after the other.
func (x *exchange) enterToDecide(token string) error {
	decisions, by := x.server.places.decisions, ""
	err := decisions.Take(by, 1)
	if errors.Is(err, deadline.ErrShare) {
		if id, ok := x.server.authz.Verified(token); ok {
			by = id
			err = decisions.Take(by, 1)
		}
	}
	if err != nil {
		return errBusy
	}
	x.leave = func() { decisions.Give(by, 1) }
	return nil
}
