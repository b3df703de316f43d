package ui

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/models"
)

// Event is one line of the audit log.
type Event struct {
	At              time.Time
	Action, Subject string
	Actor           models.Actor
	ActorName       string // address of the user, "" if it is none
	Detail          map[string]string
}

// AuditFilter is the filter of the audit log in the address.
type AuditFilter struct {
	Action, Subject, Actor, After string
	Since, Until                  string // days
}

// DecodeAuditFilter reads the address.
func DecodeAuditFilter(q url.Values) AuditFilter {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return AuditFilter{
		Action: get("action"), Subject: get("subject"), Actor: get("actor"), After: get("after"), Since: get("since"), Until: get("until"),
	}
}

// CheckAuditFilter returns what is wrong with the address of the audit log.
func CheckAuditFilter(q url.Values) error {
	var v models.Invalid
	for _, name := range [...]string{"since", "until"} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			if _, err := time.Parse(time.DateOnly, text); err != nil {
				v.Add(name, "must be a day such as 2027-01-31")
			}
		}
	}
	return v.Err()
}

// Days returns the first moment that the filter takes and the first after those.
func (f AuditFilter) Days() (since, until time.Time) {
	if day, err := time.Parse(time.DateOnly, f.Since); err == nil {
		since = day
	}
	if day, err := time.Parse(time.DateOnly, f.Until); err == nil {
		until = day.AddDate(0, 0, 1)
	}
	return since, until
}

// Audit is the page with the audit log.
func Audit(events []Event, f AuditFilter, now time.Time, next string) Table {
	t := Table{
		Heading: "Audit log", Part: adminAudit, Path: "/admin/audit", First: f.After == "",
		Columns: []string{"What", "When", "Who", "To what", "Details"},
		Filters: []Field{
			{Name: "action", Label: "Action", Kind: TextField, Value: f.Action, MaxLength: 64},
			{Name: "subject", Label: "To what", Kind: TextField, Value: f.Subject, MaxLength: 200},
			{Name: "actor", Label: "By (email address)", Kind: TextField, Value: f.Actor, MaxLength: 254},
			{Name: "since", Label: "From (UTC)", Kind: DateField, Value: f.Since},
			{Name: "until", Label: "To", Kind: DateField, Value: f.Until},
		},
		Empty: "No event fits this filter.",
	}
	q := url.Values{}
	for name, value := range map[string]string{"action": f.Action, "subject": f.Subject, "actor": f.Actor, "since": f.Since, "until": f.Until} {
		if value != "" {
			q.Set(name, value)
			t.Narrow = true
		}
	}
	if next != "" {
		q.Set("after", next)
		t.Next = "?" + q.Encode()
	}
	for _, e := range events {
		who := e.ActorName
		if who == "" {
			who = string(e.Actor.Kind)
		}
		var details []string
		for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
			details = append(details, key+": "+e.Detail[key])
		}
		at := At(e.At, now)
		t.Rows = append(t.Rows, []Cell{
			{Text: e.Action}, {Moment: &at}, {Text: who, Sub: e.Actor.IP}, {Codes: []string{e.Subject}}, {Text: strings.Join(details, "; ")},
		})
	}
	return t
}
