package ui

import (
	"fmt"
	"strings"

	"patrol/models"
	"patrol/policies/engine/workbench"
)

const (
	// maxDifferences bounds the differences that are told in words, and maxOutcomes how
	// many of what two policies decide otherwise.
	maxDifferences = 200
	maxOutcomes    = 20
)

// Difference is one thing that two policies have otherwise, in words.
type Difference struct {
	State             State
	What, Name, Title string
	Place             string
	Before, After     string // texts; "" where the files say it better
}

// Tell adds what two policies say and decide otherwise. nil: that is not known.
func (d *PolicyDiff) Tell(r *workbench.DiffReport) {
	if r == nil {
		return
	}
	d.Told = true
	for _, x := range r.Differences[:min(len(r.Differences), maxDifferences)] {
		d.Differences = append(d.Differences, differenceOf(x))
	}
	d.MoreDifferences = len(r.Differences) - len(d.Differences)
	d.Decided = fmt.Sprintf("Of %d known decisions: %d newly allowed, %d newly denied, %d denied for other reasons.",
		r.Decisions.Replayed, r.Decisions.NewlyAllowed, r.Decisions.NewlyDenied, r.Decisions.OtherReasons)
	for _, g := range r.Decisions.Groups {
		if g.Kind != workbench.NewlyAllowed && g.Kind != workbench.NewlyDenied || len(d.Outcomes) == maxOutcomes {
			continue
		}
		o := ReplayChange{Text: changesInWords(string(g.Kind), g.Count, reasonCodes(g.Reasons))}
		for _, e := range g.Examples {
			o.Examples = append(o.Examples, Link{Label: e.ID + ": " + e.Request})
		}
		d.Outcomes = append(d.Outcomes, o)
	}
	d.Requests = r.Requests[:min(len(r.Requests), maxOutcomes)]
	d.MoreRequests = len(r.Requests) - len(d.Requests)
}

func reasonCodes(reasons []workbench.ReplayReason) []models.ReasonCode {
	codes := make([]models.ReasonCode, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return codes
}

// changesInWords says how many decisions change, how and why.
func changesInWords(kind string, count int64, codes []models.ReasonCode) string {
	kinds := map[string]string{
		string(workbench.NewlyAllowed): "newly allowed", string(workbench.NewlyDenied): "newly denied", string(workbench.OtherReasons): "denied for other reasons",
		string(workbench.OtherGrant): "allowed by another scope, or with other headers",
	}
	text := plural(int(count), "decision", "decisions") + " " + kinds[kind]
	if len(codes) == 0 {
		return text
	}
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = string(c)
	}
	if kind == string(workbench.NewlyAllowed) {
		return text + ", denied before as " + strings.Join(names, ", ")
	}
	return text + ": " + strings.Join(names, ", ")
}

func differenceOf(d workbench.Difference) Difference {
	states := map[workbench.DiffKind]State{
		workbench.Added: {"active", "Added"}, workbench.Removed: {"revoked", "Removed"}, workbench.Changed: {"soon", "Changed"},
	}
	parts := map[workbench.DiffPart]string{
		workbench.PartRule: "rule", workbench.PartReason: "reason", workbench.PartRole: "role may", workbench.PartOperation: "operation",
		workbench.PartRoute: "route", workbench.PartData: "data",
	}
	out := Difference{State: states[d.Kind], What: parts[d.Part], Name: d.Name, Title: d.Title, Place: placeOf(d.File, d.Line, 0)}
	if d.Part == workbench.PartRole && !strings.Contains(d.Name, " ") {
		out.What = "role"
	}
	if d.Part == workbench.PartReason || d.Part == workbench.PartOperation {
		out.Before, out.After = d.Before, d.After
	}
	out.Name = strings.TrimPrefix(out.Name, "data.patrol.")
	return out
}
