package ui

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// RefusalsPath is the page that lists refusals that were counted.
const RefusalsPath = "/policy/refusals"

// LogReach describes, on the page of decisions, the period that the log covers. The zero
// value says nothing.
type LogReach struct {
	Text    string // "": nothing is known
	Warning string // "": there is none
}

// NewLogReach says how far back the log reaches.
func NewLogReach(l api.DecisionLog, now time.Time) LogReach {
	since := func(c api.LogClass) string {
		if c.CompleteSince == nil {
			return "there are none yet"
		}
		return "complete since " + At(*c.CompleteSince, now).Exact()
	}
	out := LogReach{Text: fmt.Sprintf(
		"Decisions about tokens that verified: %s. Of refusals without such a token some are kept (%s), and all are counted.", since(l.Verified), since(l.Refused),
	)}
	if l.Verified.CutShort {
		out.Warning = fmt.Sprintf("The log keeps decisions for %s at most, but there are more than decision_log.max_rows, %d: some are there since %s only.",
			span(time.Duration(l.RetentionSeconds)*time.Second), l.MaxRows, At(*l.Verified.CompleteSince, now).Exact())
		if l.BusiestToken != "" {
			out.Warning += fmt.Sprintf(" Most of them, %d, are of token %s.", l.BusiestRows, l.BusiestToken)
		}
	}
	return out
}

// RefusalFilter is the filter of the list of counted refusals in the address.
type RefusalFilter struct{ Address, Reason, After string }

// DecodeRefusalFilter reads the address.
func DecodeRefusalFilter(q url.Values) RefusalFilter {
	return RefusalFilter{Address: strings.TrimSpace(q.Get("address")), Reason: strings.TrimSpace(q.Get("reason")), After: q.Get("after")}
}

// Refusals is the page with what was counted of refusals without a token that
// verifies.
func Refusals(found []models.CountedRefusals, f RefusalFilter, now time.Time, next string) Table {
	reasons := choicesOf([]string{string(models.TokenMissing), string(models.TokenMalformed), string(models.TokenUnknown), string(models.Unavailable)})
	t := Table{
		Heading: "Refused without a token", Part: policyDecisions, Path: RefusalsPath, First: f.After == "",
		Intro:   "Requests without a token that verifies, counted by address and minute. Of each address and minute a few are kept as decisions; the others are counted only.",
		Crumb:   Link{Label: "Decisions", URL: decisionsPage},
		Columns: []string{"When", "Address", "Reason", "Requests", "Answers", "Kept"},
		Filters: []Field{
			{Name: "address", Label: "Address", Kind: TextField, Value: f.Address, MaxLength: 64},
			{Name: "reason", Label: "Reason", Kind: SelectField, Options: selected(reasons, f.Reason)},
		},
		Empty: "There were no such requests.",
	}
	q := url.Values{}
	for name, value := range map[string]string{"address": f.Address, "reason": f.Reason} {
		if value != "" {
			q.Set(name, value)
			t.Narrow = true
		}
	}
	if t.Narrow {
		t.Empty = "Nothing fits this filter."
	}
	if next != "" {
		q.Set("after", next)
		t.Next = "?" + q.Encode()
	}
	for _, r := range found {
		at := At(r.From, now)
		when := Cell{Text: at.Exact()}
		if r.Span > time.Minute {
			when.Sub = "the hour from then on"
		}
		address := Cell{Text: r.Address}
		if r.Address == "" {
			address.Text = "Several"
		}
		t.Rows = append(t.Rows, []Cell{
			when, address,
			{Codes: []string{string(r.Reason)}},
			{Text: fmt.Sprint(r.Calls)},
			{Text: fmt.Sprint(r.Decisions)},
			{Text: fmt.Sprint(r.Kept)},
		})
	}
	return t
}
