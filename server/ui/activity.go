package ui

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"patrol/api"
	"patrol/models"
)

// Activity lists the recent uses of a token for its page.
type Activity struct {
	ID                 string // of the token
	Allow, Deny, Error int64  // in the last seven days
	Days               []ActivityDay
	Reasons            []ReasonCount // the most frequent first
	Lost               int

	// Advice lists its unused permissions; empty: none.
	Period  int // days
	Known   *Moment
	Enough  bool
	Unused  bool
	Advice  []AdvisedScope
	Needed  []string // the scopes that would have done, for the form and the command
	Command string
	// Offer says whether the token can still be narrowed.
	Offer bool
}

// ActivityDay is one day.
type ActivityDay struct {
	Date               string
	Allow, Deny, Error int64
}

// ReasonCount is a reason to deny and how often it was the first.
type ReasonCount struct {
	Code  string
	Count int64
}

// AdvisedScope is a scope that could go or be narrower.
type AdvisedScope struct {
	Scope string
	Uses  int
	To    []string // none: it was not used
}

// Any reports whether there were decisions at all.
func (a Activity) Any() bool { return a.Allow+a.Deny+a.Error > 0 }

// NewActivity puts counts and advice together. open says whether the token is alive
// and its scopes can change.
func NewActivity(sum api.DecisionSummary, advice api.Advice, open bool, now time.Time) *Activity {
	a := &Activity{
		ID: advice.TokenID, Allow: sum.Allow, Deny: sum.Deny, Error: sum.Error, Lost: int(sum.Coverage.Lost),
		Period: advice.Days, Enough: advice.Enough, Unused: advice.Unused && advice.Coverage.From != nil && open, Offer: open,
	}
	for _, d := range sum.Days {
		a.Days = append(a.Days, ActivityDay{d.Date, d.Allow, d.Deny, d.Error})
	}
	for _, code := range slices.Sorted(maps.Keys(sum.Reasons)) {
		a.Reasons = append(a.Reasons, ReasonCount{code, sum.Reasons[code]})
	}
	slices.SortStableFunc(a.Reasons, func(x, y ReasonCount) int { return int(min(max(y.Count-x.Count, -1), 1)) })
	if from := advice.Coverage.From; from != nil {
		known := At(*from, now)
		a.Known = &known
	}
	if len(advice.Narrowed) == 0 || !open || a.Known == nil {
		return a
	}
	for _, s := range advice.Scopes {
		if s.Do == "keep" {
			continue
		}
		one := AdvisedScope{Scope: models.Scope(s.Scope).String(), Uses: int(s.Uses)}
		for _, to := range s.To {
			one.To = append(one.To, to.String())
		}
		a.Advice = append(a.Advice, one)
	}
	a.Command = advice.Command()
	for _, s := range advice.Narrowed {
		a.Needed = append(a.Needed, s.String())
	}
	return a
}

// DecodeNarrowing reads the form that narrows a token to what it was used for.
func DecodeNarrowing(form url.Values) (api.Narrowing, error) {
	var in api.Narrowing
	var v models.Invalid
	for i, text := range form["scope"] {
		s, err := models.ParseScope(text)
		if err != nil {
			v.Add("scope["+strconv.Itoa(i)+"]", "%s", err)
			continue
		}
		in.Scopes = append(in.Scopes, api.NewScope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation})
	}
	return in, v.Err()
}
