package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/models"
)

// DecisionFilter is the filter of the list of decisions in the address, in
// the words of the API. It holds ids and never a token, which a form may hold.
type DecisionFilter struct {
	User, Token, Domain, Outcome, Reason, Surface, Request, Revision string
	Since, Until                                                     string // a time, or how long ago
	After                                                            string
}

// fields are the parts of a filter with their names in addresses.
func (f *DecisionFilter) fields() map[string]*string {
	return map[string]*string{
		"user": &f.User, "token": &f.Token, "domain": &f.Domain, "outcome": &f.Outcome, "reason": &f.Reason, "surface": &f.Surface,
		"request": &f.Request, "revision": &f.Revision, "since": &f.Since, "until": &f.Until, "after": &f.After,
	}
}

// DecodeDecisionFilter reads the address.
func DecodeDecisionFilter(q url.Values) (f DecisionFilter) {
	for name, field := range f.fields() {
		*field = strings.TrimSpace(q.Get(name))
	}
	return f
}

// formTime is the form in which a browser sends a time.
const formTime = "2006-01-02T15:04"

// DecodeDecisionForm reads what was typed. The user may be an address, and the token
// the token itself: what they stand for is for the caller to find out before any of it
// gets into an address.
func DecodeDecisionForm(form url.Values) (f DecisionFilter, problems Problems) {
	f = DecodeDecisionFilter(form)
	f.After, f.Token, f.Request, f.Since, f.Until = "", Pasted(form.Get("token")), Pasted(form.Get("request")), form.Get("period"), ""
	for name, field := range map[string]*string{"from": &f.Since, "to": &f.Until} {
		text := form.Get(name)
		if text == "" {
			continue
		}
		at, err := time.Parse(formTime, text)
		if err != nil { // with seconds, as some browsers have it
			at, err = time.Parse(formTime+":05", text)
		}
		if err != nil {
			problems.Add(name, "is not a time such as 2027-01-31T12:00")
			continue
		}
		*field = at.Format(time.RFC3339)
	}
	return f, problems
}

// Query is the filter as an address has it, with its question mark; "" if it does not
// narrow.
func (f DecisionFilter) Query() string {
	q := url.Values{}
	for name, field := range f.fields() {
		if *field != "" {
			q.Set(name, *field)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// Narrowed reports whether the filter leaves anything out.
func (f DecisionFilter) Narrowed() bool {
	f.After = ""
	return f.Query() != ""
}

// Decisions is the page that lists recorded decisions.
type Decisions struct {
	Filter DecisionFilter
	// Off says that decisions are not kept where they can be looked up.
	Off      bool
	Rows     []DecisionRow
	Next     string // cursor
	Codes    []string
	Known    []string // revisions of the policy
	UserName string   // address of the user in the filter, "" if unknown
	Problems Problems // with the filter, which was not followed then
	Reach    LogReach
}

// Title implements [Page].
func (Decisions) Title() string    { return "Decisions" }
func (Decisions) template() string { return "policy-decisions" }
func (Decisions) section() section { return policyDecisions }
func (Decisions) top() bool        { return true }
func (d Decisions) failed() bool   { return d.Problems.Any() }

// DecisionRow is a decision in the list.
type DecisionRow struct {
	models.LoggedDecision
	When             Moment
	Email, TokenName string // "" if unknown
}

const decisionsPage = "/policy/decisions"

// DecisionURL is the page of a decision.
func DecisionURL(id string) string { return decisionsPage + "/" + url.PathEscape(id) }

// Link is the page of the decision.
func (r DecisionRow) Link() string { return DecisionURL(r.ID) }

// State is the outcome of the decision.
func (r DecisionRow) State() State { return outcomeState(r.Outcome()) }

func outcomeState(o models.Outcome) State {
	switch o {
	case models.OutcomeAllow:
		return State{"active", "Allowed"}
	case models.OutcomeError:
		return State{"soon", "Not judged"}
	default:
		return State{"revoked", "Denied"}
	}
}

// Asked is the question, "" if it is not known.
func (r DecisionRow) Asked() string {
	if r.Request.Domain+r.Request.EntityType+r.Request.Entity+r.Request.Operation == "" {
		return ""
	}
	return r.Request.Scope()
}

// Duration is the time that it took.
func (r DecisionRow) Duration() string { return shortDuration(r.Took) }

// shortDuration has as many digits as people read.
func shortDuration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
}

// OfUser and OfToken are the lists of what else the same did.
func (r DecisionRow) OfUser() string {
	return decisionsPage + DecisionFilter{User: r.UserID}.Query()
}

// OfToken is the list of what else the token did.
func (r DecisionRow) OfToken() string {
	return decisionsPage + DecisionFilter{Token: r.TokenID}.Query()
}

// OfRequest is the list of what the same request asked.
func (r DecisionRow) OfRequest() string {
	return decisionsPage + DecisionFilter{Request: r.RequestID}.Query()
}

// NextPage is the address of the next page, "" at the end.
func (d Decisions) NextPage() string {
	if d.Next == "" {
		return ""
	}
	f := d.Filter
	f.After = d.Next
	return decisionsPage + f.Query()
}

// FirstPage is the address of the first page.
func (d Decisions) FirstPage() string {
	f := d.Filter
	f.After = ""
	return decisionsPage + f.Query()
}

// periods are the offers of how far back to look.
var periods = []Option{
	{Label: "Any"},
	{Value: "1h", Label: "The last hour"},
	{Value: "24h", Label: "The last 24 hours"},
	{Value: "7d", Label: "The last 7 days"},
	{Value: "30d", Label: "The last 30 days"},
}

// Fields are the controls of the filter that are always seen.
func (d Decisions) Fields() []Field {
	f := d.Filter
	user := f.User
	if d.UserName != "" {
		user = d.UserName
	}
	outcomes := []Option{{Label: "Any"}, {Value: "allow", Label: "Allowed"}, {Value: "deny", Label: "Denied"}, {Value: "error", Label: "Not judged"}}
	return []Field{
		{Name: "user", Label: "User (email or id)", Kind: TextField, Value: user, MaxLength: 254},
		{Name: "token", Label: "Token (id)", Kind: TextField, Value: f.Token, MaxLength: 200},
		{Name: "domain", Label: "Domain", Kind: TextField, Value: f.Domain, MaxLength: 63},
		{Name: "outcome", Label: "Outcome", Kind: SelectField, Options: selected(outcomes, f.Outcome)},
		{Name: "reason", Label: "Reason", Kind: SelectField, Options: selected(choicesOf(d.Codes), f.Reason)},
		{Name: "period", Label: "Time", Kind: SelectField, Options: selected(periods, d.period())},
	}
}

// More are the controls for those who look closer, and Open says whether one is used.
func (d Decisions) More() []Field {
	f := d.Filter
	return []Field{
		{Name: "from", Label: "From (UTC)", Kind: TimeField, Value: toForm(f.Since)},
		{Name: "to", Label: "To (UTC)", Kind: TimeField, Value: toForm(f.Until)},
		{Name: "request", Label: "Request (id)", Kind: TextField, Value: f.Request, MaxLength: 64},
		{Name: "revision", Label: "Revision", Kind: SelectField, Options: selected(choicesOf(d.Known), f.Revision)},
		{Name: "surface", Label: "Surface", Kind: SelectField, Options: selected(choicesOf(models.Surfaces), f.Surface)},
	}
}

// Open reports whether one of the further controls is used.
func (d Decisions) Open() bool {
	return toForm(d.Filter.Since)+toForm(d.Filter.Until)+d.Filter.Request+d.Filter.Revision+d.Filter.Surface != ""
}

// period is the period of the filter, "" if it names a time.
func (d Decisions) period() string {
	if _, err := time.Parse(time.RFC3339, d.Filter.Since); err == nil {
		return ""
	}
	return d.Filter.Since
}

// toForm is a time of an address as a browser has it, "" if it is none.
func toForm(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	return at.UTC().Format(formTime)
}

// choicesOf offers values that are their own labels.
func choicesOf(values []string) []Option {
	out := []Option{{Label: "Any"}}
	for _, v := range values {
		out = append(out, Option{Value: v, Label: v})
	}
	return out
}

// selected selects a value, and offers it if it is not among the options.
func selected(options []Option, value string) []Option {
	out := slices.Clone(options)
	for i := range out {
		if out[i].Value == value {
			out[i].Selected = true
			return out
		}
	}
	return append(out, Option{Value: value, Label: value, Selected: true})
}
