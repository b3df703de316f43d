package endpoint

import (
	"net/http"
	"net/url"
	"time"

	"patrol/models"
	"patrol/server/manage"
)

// The period of advice.
const (
	AdviceDays    = 30 // unless something else is asked for
	MaxAdviceDays = 366
)

// DecisionFilter reads what narrows a list of decisions, adding to v what is wrong
// with it.
func DecisionFilter(query url.Values, now time.Time, v *models.Invalid) manage.DecisionFilter {
	f := manage.DecisionFilter{
		TokenID: query.Get("token"), UserID: query.Get("user"), Domain: query.Get("domain"),
		Outcome: models.Outcome(query.Get("outcome")), Reason: models.ReasonCode(query.Get("reason")),
		Surface: query.Get("surface"), Request: query.Get("request"), Revision: query.Get("revision"),
		Since: PastTime(query, "since", now, v), Until: PastTime(query, "until", now, v),
	}
	switch f.Outcome {
	case "", models.OutcomeAllow, models.OutcomeDeny, models.OutcomeError:
	default:
		v.Add("outcome", "must be one of allow, deny, error")
	}
	return f
}

// PastTime reads a time, or how long ago it was.
func PastTime(query url.Values, name string, now time.Time, v *models.Invalid) time.Time {
	text := query.Get(name)
	if text == "" {
		return time.Time{}
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	ago, err := models.ParseDuration(text)
	if err != nil {
		v.Add(name, "must be a time such as 2027-01-31T12:00:00Z, or how long ago it was, such as 24h")
		return time.Time{}
	}
	return now.Add(-ago)
}

// DefaultPage is the number of items of a page of a list where nothing else is said.
const DefaultPage = 50

// AllowTrial gives the answer to a request the time that a trial takes. A connection
// without deadlines has none to move.
func AllowTrial(w http.ResponseWriter, within time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within))
}
