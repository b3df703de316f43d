package ui

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/internal/linediff"
	"patrol/policies/engine/workbench"
)

// PolicyHistory is the page about what happened to the policy, and what can be rolled
// back to.
type PolicyHistory struct {
	Events []PolicyEvent
	Kept   []KeptPolicy
	sides  []PolicySide // that can be compared
}

// Title implements [Page].
func (PolicyHistory) Title() string    { return "History" }
func (PolicyHistory) template() string { return "policy-history" }
func (PolicyHistory) section() section { return policyHistory }
func (PolicyHistory) top() bool        { return true }

// NewPolicyHistory is the page at now. emails are the addresses of users by their ids;
// candidate says whether the source holds something else than what is in force.
func NewPolicyHistory(h api.PolicyHistory, emails map[string]string, candidate bool, now time.Time) PolicyHistory {
	page := PolicyHistory{sides: PolicySides(h.Kept, candidate)}
	for _, e := range h.Events {
		page.Events = append(page.Events, PolicyEvent{PolicyEvent: e, When: At(e.At, now), email: emails[e.UserID]})
	}
	active := ""
	for _, r := range h.Kept {
		if r.Active {
			active = r.Digest
		}
	}
	for _, r := range h.Kept {
		page.Kept = append(page.Kept, KeptPolicy{PolicyRevision: r, Since: At(r.ActivatedAt, now), active: active})
	}
	return page
}

// Comparison is the form that compares two policies: the one in force with the one
// before it, or with what the source holds.
func (h PolicyHistory) Comparison() DiffForm { return comparison(h.sides, "", "") }

// PolicyEvent is something that happened to the policy.
type PolicyEvent struct {
	api.PolicyEvent
	When  Moment
	email string // of the user who did it
}

// State says what happened.
func (e PolicyEvent) State() State {
	switch e.Kind {
	case "activate":
		return State{"active", "Came into force"}
	case "refuse":
		return State{"revoked", "Refused"}
	case "rollback":
		return State{"soon", "Rolled back to"}
	case "resume":
		return State{"active", "Source followed again"}
	case "promote":
		return State{"soon", "Promoted"}
	case "shadow":
		return State{"expired", "Judged in the shadow"}
	case "shadow_refuse":
		return State{"revoked", "Refused for the shadow"}
	default:
		return State{"expired", e.Kind}
	}
}

// Who names the actor.
func (e PolicyEvent) Who() string {
	switch {
	case e.email != "":
		return e.email
	case e.UserID != "":
		return e.UserID
	case e.Actor == "system":
		return "the server"
	default:
		return string(e.Actor)
	}
}

// Facts are the gate's results.
func (e PolicyEvent) Facts() []Fact { return resultFacts(e.Result) }

// Findings say why it was refused.
func (e PolicyEvent) Findings() []PolicyFinding { return findingsOf(e.Result.Findings) }

// Summary is the result in a few words: the first reason of a refusal, else how many
// tests passed.
func (e PolicyEvent) Summary() string {
	switch n := len(e.Result.Findings); {
	case n > 1:
		return plural(n, "problem", "problems")
	case n == 1:
		return "1 problem"
	case e.Result.Tests != nil && e.Result.Coverage != nil:
		return fmt.Sprintf("%s passed, %.0f %% covered", plural(e.Result.Tests.Passed, "test", "tests"), *e.Result.Coverage)
	case len(e.Facts()) > 0:
		return "Results"
	default:
		return ""
	}
}

// KeptPolicy is a policy that can be rolled back to.
type KeptPolicy struct {
	api.PolicyRevision
	Since  Moment // the last time that it came into force
	active string // digest of the one in force
}

// Summary is the gate's result in a few words.
func (k KeptPolicy) Summary() string {
	return PolicyEvent{PolicyEvent: api.PolicyEvent{Result: k.Result}}.Summary()
}

// RollBack is the address of the question before it is rolled back to.
func (k KeptPolicy) RollBack() string { return RollBackURL(k.Digest) }

// RollBackURL is the address of the question before a rollback to a revision.
func RollBackURL(name string) string {
	return "/policy/history/rollback?" + url.Values{"revision": {name}}.Encode()
}

// Compare is the address of its comparison with the one in force.
func (k KeptPolicy) Compare() string { return diffURL(k.Digest, k.active) }

func diffURL(from, to string) string {
	return "/policy/history/diff?" + url.Values{"from": {from}, "to": {to}}.Encode()
}

// RollBackPolicy asks before a revision is put in force again.
func RollBackPolicy(r api.PolicyRevision, active string, now time.Time, p Problems) Confirm {
	last := At(r.ActivatedAt, now)
	lines := []string{
		fmt.Sprintf("It is in force on all servers within a second, in place of %s. It came into force last %s.", active, last.Relative()),
		"It is pinned: whatever the policy’s source holds, nothing else comes into force until the source is followed again.",
		"The audit log names you.",
	}
	if r.Active {
		lines[0] = "It is in force already, and stays so."
	}
	return Confirm{
		Heading: "Roll back to " + r.Revision + "?", Lines: lines,
		Action: "/policy/history/rollback", Hidden: map[string]string{"revision": r.Digest}, Submit: "Roll back to " + r.Revision, Cancel: "/policy/history",
		Part: policyHistory, Problems: p,
	}
}

// PolicyRolledBack says so.
func PolicyRolledBack(p api.Policy) string {
	return p.Revision + " is in force, and pinned until the source is followed again."
}

// PolicySide is a policy that can be compared with others.
type PolicySide struct{ Key, Label string }

// CandidateKey names what the source holds and is not in force, where policies are
// compared. Others are named by their digests.
const CandidateKey = "candidate"

// PolicySides are the policies that can be compared: what the source holds, if that is
// another, and those that are kept.
func PolicySides(kept []api.PolicyRevision, candidate bool) (out []PolicySide) {
	if candidate {
		out = append(out, PolicySide{CandidateKey, "What the source holds"})
	}
	named := map[string]int{}
	for _, r := range kept {
		named[r.Revision]++
	}
	for _, r := range kept {
		label := r.Revision
		if named[label] > 1 {
			label += fmt.Sprintf(" (%.8s)", strings.TrimPrefix(r.Digest, "sha256:"))
		}
		if r.Active {
			label += ", in force"
		}
		out = append(out, PolicySide{r.Digest, label})
	}
	return out
}

// DiffForm chooses two policies to compare; it has nothing to offer if there is but one.
type DiffForm struct{ From, To []Option }

func comparison(sides []PolicySide, from, to string) DiffForm {
	if len(sides) < 2 {
		return DiffForm{}
	}
	if to == "" {
		to, from = sides[0].Key, sides[1].Key // the later, and the one before
	}
	offer := func(chosen string) (out []Option) {
		for _, s := range sides {
			out = append(out, Option{Value: s.Key, Label: s.Label, Selected: s.Key == chosen})
		}
		return out
	}
	return DiffForm{From: offer(from), To: offer(to)}
}

// PolicyDiff is the page that compares two policies.
type PolicyDiff struct {
	Form     DiffForm
	From, To string // what they are called
	Files    []FileDiff

	// Differences in text and in decisions, if Told.
	Told            bool
	Differences     []Difference
	MoreDifferences int
	Decided         string
	Outcomes        []ReplayChange
	Requests        []workbench.RequestDifference
	MoreRequests    int
}

// Title implements [Page].
func (PolicyDiff) Title() string    { return "Changes" }
func (PolicyDiff) template() string { return "policy-diff" }
func (PolicyDiff) section() section { return policyHistory }

// FileDiff is the difference of a file.
type FileDiff struct {
	Name           string
	State          State
	Added, Removed int
	Hunks          []DiffHunk
	More           int  // lines that are not shown
	Hidden         bool // none is: enough are of other files
}

// DiffHunk is a change with the lines around it.
type DiffHunk struct {
	Header string
	Lines  []DiffLine
}

// DiffLine is a line of a change. Of the numbers one is 0 where only the other file
// has the line.
type DiffLine struct {
	Kind   string // same, added or removed
	Before int
	After  int
	Text   string
}

// Sign marks what only one of the files has.
func (l DiffLine) Sign() string {
	switch l.Kind {
	case "added":
		return "+"
	case "removed":
		return "-"
	default:
		return " "
	}
}

const (
	// maxDiffLines bounds the lines of one file, and maxDiff those of all, that are
	// shown.
	maxDiffLines = 1000
	maxDiff      = 5000
	// maxColumns bounds the shown part of a line.
	maxColumns = 1000
)

// NewPolicyDiff compares the files of two policies.
func NewPolicyDiff(sides []PolicySide, from, to string, before, after map[string][]byte) PolicyDiff {
	page := PolicyDiff{Form: comparison(sides, from, to)}
	for _, s := range sides {
		if s.Key == from {
			page.From = s.Label
		}
		if s.Key == to {
			page.To = s.Label
		}
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	left := maxDiff
	for _, name := range slices.Compact(names) {
		a, was := before[name]
		b, is := after[name]
		if was == is && bytes.Equal(a, b) {
			continue
		}
		f := FileDiff{Name: name, State: State{"soon", "Changed"}}
		switch {
		case !was:
			f.State = State{"active", "Added"}
		case !is:
			f.State = State{"revoked", "Removed"}
		}
		if f.Hidden = left <= 0; !f.Hidden {
			f.show(linediff.Hunks(string(a), string(b)), min(left, maxDiffLines))
			left -= f.shown()
		}
		page.Files = append(page.Files, f)
	}
	return page
}

// show takes over as many lines as there is room for.
func (f *FileDiff) show(hunks []linediff.Hunk, room int) {
	for _, h := range hunks {
		out := DiffHunk{Header: h.Header()}
		for _, l := range h {
			line := DiffLine{Kind: "same", Before: l.Before, After: l.After, Text: strings.TrimRight(l.Text, "\r\n")}
			switch l.Op {
			case linediff.Before:
				line.Kind, line.After = "removed", 0
				f.Removed++
			case linediff.After:
				line.Kind, line.Before = "added", 0
				f.Added++
			}
			if len(line.Text) > maxColumns {
				line.Text = strings.ToValidUTF8(line.Text[:maxColumns], "") + " …"
			}
			if room--; room < 0 {
				f.More++
				continue
			}
			out.Lines = append(out.Lines, line)
		}
		if len(out.Lines) > 0 {
			f.Hunks = append(f.Hunks, out)
		}
	}
}

func (f *FileDiff) shown() (n int) {
	for _, h := range f.Hunks {
		n += len(h.Lines)
	}
	return n
}
