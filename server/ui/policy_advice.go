package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// AdviceFilter is the filter of the list of tokens with unused permissions in the
// address says.
type AdviceFilter struct {
	Days      int
	Domain    string
	Uncertain bool
	After     string
}

// adviceDays are the choices of how far back to look; the first is the default.
var adviceDays = [...]int{30, 7, 90, 180, 365}

// CheckAdviceFilter returns what is wrong with the address of the list.
func CheckAdviceFilter(q url.Values) error {
	var v models.Invalid
	var choices []string
	for _, days := range adviceDays {
		choices = append(choices, strconv.Itoa(days))
	}
	if days := q.Get("days"); days != "" && !slices.Contains(choices, days) {
		v.Add("days", "must be one of %s", strings.Join(choices, ", "))
	}
	if uncertain := q.Get("uncertain"); uncertain != "" && uncertain != "1" {
		v.Add("uncertain", "must be 1, or left out")
	}
	return v.Err()
}

// DecodeAdviceFilter reads the address, which [CheckAdviceFilter] found nothing wrong with.
func DecodeAdviceFilter(q url.Values) AdviceFilter {
	f := AdviceFilter{
		Days: adviceDays[0], Domain: strings.TrimSpace(q.Get("domain")), Uncertain: q.Get("uncertain") != "", After: q.Get("after"),
	}
	for _, days := range adviceDays {
		if q.Get("days") == strconv.Itoa(days) {
			f.Days = days
		}
	}
	return f
}

// query is the filter as an address has it.
func (f AdviceFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"domain": f.Domain, "after": f.After} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Days != adviceDays[0] {
		q.Set("days", strconv.Itoa(f.Days))
	}
	if f.Uncertain {
		q.Set("uncertain", "1")
	}
	return q
}

// AdvicePath is the page with the tokens that could do with less.
const AdvicePath = "/policy/advice"

// NoAdvice is the page where no decisions are kept to go by.
func NoAdvice() Table {
	return Table{
		Heading: "Unused scopes", Part: policyAdvice, Path: AdvicePath, First: true,
		Empty: "Which scopes are used is known where decisions are kept in a database. An operator turns that on with the setting decision_log.database.",
	}
}

// Advised is the page with the tokens of all users that could do with less. admin says
// that the viewer may look at them, too.
func Advised(page api.AdvicePage, f AdviceFilter, admin bool, now time.Time) Table {
	days := make([]Option, len(adviceDays))
	for i, n := range adviceDays {
		days[i] = Option{Value: strconv.Itoa(n), Label: plural(n, "day", "days"), Selected: n == f.Days}
	}
	first := f
	first.After = ""
	t := Table{
		Heading: "Unused scopes", Part: policyAdvice, Path: AdvicePath, Narrow: len(first.query()) > 0, First: f.After == "",
		Columns: []string{"Token", "Owner", "Unused scopes", "Too wide", "Last used", "For its owner to type"},
		Filters: []Field{
			{Name: "days", Label: "Used within", Kind: SelectField, Options: days},
			{Name: "domain", Label: "Reaches domain", Kind: TextField, Value: f.Domain, MaxLength: 63},
			{Name: "uncertain", Label: "Also what is not sure", Kind: CheckField, Checked: f.Uncertain},
		},
		Intro: adviceIntro(page, f, now),
		Empty: "Every scope of these tokens was used.",
	}
	if !page.Enough && !f.Uncertain {
		t.Empty = "What is not known to have been used may have been. Look at fewer days, or list what is not sure."
	}
	if page.Next != nil {
		q := first.query()
		q.Set("after", *page.Next)
		t.Next = "?" + q.Encode()
	}
	for _, a := range page.Items {
		name := Cell{Text: a.Name, Sub: a.TokenID, URL: decisionsPage + DecisionFilter{Token: a.TokenID}.Query()}
		if admin {
			name.URL = "/admin/pats/" + url.PathEscape(a.TokenID)
		}
		if !a.Enough {
			name.State = &State{"soon", "Not sure"}
		}
		used := Cell{Text: "Never"}
		if a.LastUsedAt != nil {
			at := At(*a.LastUsedAt, now)
			used = Cell{Moment: &at}
		}
		t.Rows = append(t.Rows, []Cell{
			name, {Text: a.Email}, {Text: fmt.Sprintf("%d of %d", a.UnusedScopes, len(a.Scopes))}, {Text: strconv.Itoa(a.WideScopes)}, used, {Codes: []string{a.Command()}},
		})
	}
	return t
}

// adviceIntro says what the list rests on.
func adviceIntro(page api.AdvicePage, f AdviceFilter, now time.Time) string {
	var b strings.Builder
	switch from := page.Coverage.From; {
	case page.Enough:
	case from == nil:
		fmt.Fprintf(&b, "Nothing is known: no decision of the last %d days is in the log. ", page.Days)
	default:
		fmt.Fprintf(&b, "The log does not cover the last %d days: decisions are known since %s, and %d were not logged. ", page.Days, At(*from, now).Date(), page.Coverage.Lost)
	}
	if page.Enough || f.Uncertain {
		n := page.Tokens
		fmt.Fprintf(&b, "Of %s, %d could do with less, going by what they were used for in the last %d days; %d of them were not used at all. ",
			plural(n.Judged, "live token", "live tokens"), n.Narrowable, page.Days, n.Unused)
		if n.TooYoung > 0 {
			fmt.Fprintf(&b, "%s left out: too young to tell. ", plural(n.TooYoung, "token is", "tokens are"))
		}
	}
	b.WriteString("To narrow a token is for its owner, who finds the same advice on its page.")
	return b.String()
}
