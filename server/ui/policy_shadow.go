package ui

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// PolicyShadow is the page about the policy that is judged beside the one in force.
type PolicyShadow struct {
	api.PolicyShadow
	Since  Moment // when it became the shadow
	Groups []ShadowGroup

	from, to *Moment // the first and the last decision that was judged
}

// Title implements [Page].
func (PolicyShadow) Title() string    { return "Shadow" }
func (PolicyShadow) template() string { return "policy-shadow" }
func (PolicyShadow) section() section { return policyShadow }
func (PolicyShadow) top() bool        { return true }

// ShadowGroup are decisions that diverge alike.
type ShadowGroup struct {
	api.ShadowGroup
	Last Moment
	Rows []ShadowRow
}

// ShadowRow is a decision that the shadow would have made otherwise.
type ShadowRow struct {
	models.Divergence
	When  Moment
	Email string // of the token's owner; "" if unknown
}

// NewPolicyShadow is the page at now. emails are of users by id.
func NewPolicyShadow(s api.PolicyShadow, emails map[string]string, now time.Time) PolicyShadow {
	page := PolicyShadow{PolicyShadow: s, from: maybeAt(s.Counts.From, now), to: maybeAt(s.Counts.To, now)}
	if s.Shadow != nil {
		page.Since = At(s.Shadow.Since, now)
	}
	for _, g := range s.Groups {
		group := ShadowGroup{ShadowGroup: g, Last: At(g.To, now)}
		for _, e := range g.Examples {
			group.Rows = append(group.Rows, ShadowRow{Divergence: e, When: At(e.At, now), Email: emails[e.UserID]})
		}
		page.Groups = append(page.Groups, group)
	}
	return page
}

// State is its state in a word or two.
func (s PolicyShadow) State() State {
	switch {
	case s.InForce:
		return State{"active", "In force"}
	case s.Server != nil && s.Server.Failure != "":
		return State{"revoked", "Fails"}
	case s.Server != nil && s.Server.Judging:
		return State{"active", "Judges"}
	default:
		return State{"expired", "Does not judge here"}
	}
}

// Facts are the gate's results for it.
func (s PolicyShadow) Facts() []Fact { return resultFacts(s.Shadow.Result) }

// Findings say why the policy in the source is not judged.
func (s PolicyShadow) Findings() []PolicyFinding {
	if s.Server == nil || s.Server.Refused == nil {
		return nil
	}
	return findingsOf(s.Server.Refused.Findings)
}

// Sums are the numbers of decisions by outcome. Outcomes without any are left out, but for
// what one looks for first.
func (s PolicyShadow) Sums() (sums []Fact) {
	c := s.Counts
	for _, sum := range []struct {
		n    int64
		name string
		must bool
	}{
		{c.Judged, "Judged", true},
		{c.Same, "The same", true},
		{c.NewlyDenied, "Newly denied", true},
		{c.NewlyAllowed, "Newly allowed", true},
		{c.OtherReasons, "Denied for other reasons", false},
		{c.OtherGrant, "Allowed otherwise", false},
		{c.Errors, "Could not be judged", false},
		{c.Dropped, "Passed over", false},
	} {
		if sum.n > 0 || sum.must {
			sums = append(sums, Fact{sum.name, fmt.Sprint(sum.n)})
		}
	}
	return sums
}

// Period is from when to when decisions were judged; "" if none was.
func (s PolicyShadow) Period() string {
	if s.from == nil || s.to == nil {
		return ""
	}
	return "The first was made " + s.from.Relative() + ", the last " + s.to.Relative() + "."
}

// Promote is the address of the question before it is put in force.
func (s PolicyShadow) Promote() string { return PromoteURL(s.Shadow.Digest) }

// PromoteURL is the address of the question before a shadow is put in force.
func PromoteURL(digest string) string {
	return "/policy/shadow/promote?" + url.Values{"revision": {digest}}.Encode()
}

// Heading says how many decisions diverge, and how.
func (g ShadowGroup) Heading() string {
	words, ok := map[string]string{
		"newly_allowed": "newly allowed", "newly_denied": "newly denied", "other_reasons": "denied for other reasons", "other_grant": "allowed by another scope or with other headers",
	}[g.Kind]
	if !ok {
		words = g.Kind
	}
	return fmt.Sprintf("%d %s", g.Count, words)
}

// Place is the place of the rule of a reason, "" if it is not known.
func (ShadowGroup) Place(r api.PolicyReplayReason) string { return placeOf(r.File, r.Line, 0) }

// Link is the page of the decision.
func (r ShadowRow) Link() string { return DecisionURL(r.ID) }

// Was and Would are what was decided, and what the shadow would have decided.
func (r ShadowRow) Was() string { return outcomeOf(r.Before) }

// Would is the shadow's.
func (r ShadowRow) Would() string { return outcomeOf(r.After) }

func outcomeOf(codes []models.ReasonCode) string {
	if len(codes) == 0 {
		return "allowed"
	}
	texts := make([]string, len(codes))
	for i, c := range codes {
		texts[i] = string(c)
	}
	return strings.Join(texts, ", ")
}

// PromotePolicy asks before a shadow is put in force.
func PromotePolicy(s api.PolicyShadow, p Problems) Confirm {
	lines := []string{fmt.Sprintf("%s is in force on all servers within a second, in place of %s.", s.Shadow.Revision, s.Base)}
	switch c := s.Counts; {
	case c.Judged == 0:
		lines = append(lines, "It has judged no decision of the policy in force yet.")
	case c.Changes() == 0:
		lines = append(lines, fmt.Sprintf("It would have made all of %s alike.", plural(int(c.Judged), "decision", "decisions")))
	default:
		lines = append(lines, fmt.Sprintf("Of %s it would have made %d otherwise: %d newly denied, %d newly allowed.",
			plural(int(c.Judged), "decision", "decisions"), c.Changes(), c.NewlyDenied, c.NewlyAllowed))
	}
	lines = append(lines,
		"It is pinned, since the policy’s source holds the old one still. Ship it there: the pin ends as soon as the source holds the very same.",
		"The audit log names you, and what was counted.")
	return Confirm{
		Heading: "Put " + s.Shadow.Revision + " in force?", Lines: lines,
		Action: "/policy/shadow/promote", Hidden: map[string]string{"revision": s.Shadow.Digest}, Submit: "Promote " + s.Shadow.Revision, Cancel: "/policy/shadow",
		Part: policyShadow, Problems: p,
	}
}

// PolicyPromoted says so.
func PolicyPromoted(p api.Policy) string {
	return p.Revision + " is in force, and pinned until the source holds the same. Ship it there."
}
