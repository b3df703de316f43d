package workbench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// Loaded is a policy with the bundle that it was loaded from.
type Loaded struct {
	Source   engine.Source
	Snapshot *engine.Snapshot
}

// DiffReport says what two policies have otherwise, and what they decide otherwise.
type DiffReport struct {
	Before PolicyName `json:"before"`
	After  PolicyName `json:"after"`
	// Differences are the differences of the bundles, in the order of their parts.
	Differences []Difference `json:"differences"`
	// Decisions are the known decisions, see [Diff], that come out otherwise.
	Decisions *ReplayReport `json:"decisions"`
	// Requests are the proxied requests that stand for something else.
	Requests []RequestDifference `json:"requests"`
	// Recorded are decisions of the log that come out otherwise; nil if none were made
	// again.
	Recorded *ReplayReport `json:"recorded"`
}

// Same reports whether there is no difference at all.
func (r *DiffReport) Same() bool {
	return len(r.Differences)+len(r.Requests) == 0 && r.Decisions.Changes() == 0 && (r.Recorded == nil || r.Recorded.Changes() == 0)
}

// PolicyName says which policy a report is about.
type PolicyName struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
}

// Difference is one thing that two bundles have otherwise.
type Difference struct {
	Part DiffPart `json:"part"`
	Kind DiffKind `json:"kind"`
	// Name is the rule's path, the reason's code, the role, or the role, entity type and operation
	// (`member models/execute`), entity type and operation, the route's pattern, or the document's path.
	Name  string `json:"name"`
	Title string `json:"title,omitempty"` // of a rule
	// Before and After are its text, "" where it is not there or too long to be told.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// File and Line are those of a rule or reason, where it is now, or was.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// DiffKind is the kind of a difference.
type DiffKind string

// The kinds of differences.
const (
	Added   DiffKind = "added"
	Removed DiffKind = "removed"
	Changed DiffKind = "changed"
)

// DiffPart is a part of a bundle.
type DiffPart string

// The parts of bundles that are compared.
const (
	PartRule      DiffPart = "rule"
	PartReason    DiffPart = "reason"    // the code and message that a rule declares
	PartRole      DiffPart = "role"      // what a role permits
	PartOperation DiffPart = "operation" // of the catalog
	PartRoute     DiffPart = "route"
	PartWaiver    DiffPart = "waiver" // what the manifest and the server waive together
	PartData      DiffPart = "data"   // any other document
)

// RequestDifference is a proxied request that stands for something else. Before and After are
// as scopes with a space between them; "" is no route.
type RequestDifference struct {
	Request string `json:"request"` // method and path
	Before  string `json:"before"`
	After   string `json:"after"`
}

// Diff compares two policies. It compares what their bundles say: rules, reasons,
// roles, catalog, routes and other data; texts in another layout are the same text.
// And it has both decide what is known beforehand: the decisions that this program keeps of the
// default policy, and each operation of both catalogs as asked for by each of their
// roles, with and without what may stand in its way; and what each of their routes, and
// others, stands for. examples is the number of changed decisions that are told of each kind; 0 is
// the default.
func Diff(ctx context.Context, before, after Loaded, examples int) (*DiffReport, error) {
	r := &DiffReport{Before: before.name(), After: after.name(), Differences: []Difference{}, Requests: []RequestDifference{}}
	var bundles [2]*engine.Bundle
	for i, l := range [...]Loaded{before, after} {
		var err error
		if bundles[i], err = l.Source.Parse(); err != nil {
			return nil, fmt.Errorf("policy %s: %w", l.Source.Name, err)
		}
	}
	a, b := before.Snapshot, after.Snapshot
	r.Differences = slices.Concat(
		diffRules(bundles[0], bundles[1]), diffReasons(a, b), diffRoles(a.Catalog(), b.Catalog()), diffOperations(a.Catalog(), b.Catalog()),
		diffWaivers(bundles[0], bundles[1]),
		diffData(bundles[0].Data, bundles[1].Data),
	)
	var err error
	if r.Decisions, err = diffDecisions(ctx, a, b, bundles, cmp.Or(examples, defaultExamples)); err != nil {
		return nil, err
	}
	r.Requests, err = diffRequests(ctx, a, b, bundles)
	return r, err
}

func (l Loaded) name() PolicyName {
	return PolicyName{l.Source.Name, l.Snapshot.Revision(), l.Source.Digest()}
}

// compared compares what two maps have under each key, in the order of the keys.
func compared[V any](before, after map[string]V, same func(a, b V) bool, found func(kind DiffKind, key string, a, b V)) {
	keys := maps.Clone(before)
	if keys == nil {
		keys = map[string]V{}
	}
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a, inBefore := before[key]
		b, inAfter := after[key]
		switch {
		case !inBefore:
			found(Added, key, a, b)
		case !inAfter:
			found(Removed, key, a, b)
		case !same(a, b):
			found(Changed, key, a, b)
		}
	}
}

// definition is one of the rules that define a document.
type definition struct {
	path, label string // the label tells it from others of the same path
	text        string // as it is written
	meaning     string // in one layout, with its metadata
	title       string
	location    *ast.Location
}

// definitionsOf are the rules of a bundle, by path.
func definitionsOf(b *engine.Bundle) map[string][]definition {
	byPath := map[string][]definition{}
	for _, name := range slices.Sorted(maps.Keys(b.Modules)) {
		for _, rule := range b.Modules[name].Rules {
			d := definition{path: rule.Ref().GroundPrefix().String(), text: strings.TrimSpace(string(rule.Location.Text)), meaning: rule.String(), location: rule.Location}
			for _, a := range rule.Annotations {
				code, _ := a.Custom["code"].(string)
				if a.Title != "" {
					d.title = a.Title
				}
				d.label = cmp.Or(code, d.title)
				meta := *a
				meta.Location = nil
				if content, err := json.Marshal(meta); err == nil {
					d.meaning += string(content)
				}
			}
			byPath[d.path] = append(byPath[d.path], d)
		}
	}
	return byPath
}

func (d definition) difference(kind DiffKind) Difference {
	return Difference{Part: PartRule, Kind: kind, Name: d.path, Title: d.title, File: d.location.File, Line: d.location.Row}
}

func diffRules(before, after *engine.Bundle) (found []Difference) {
	same := func(a, b []definition) bool {
		return slices.EqualFunc(a, b, func(a, b definition) bool { return a.meaning == b.meaning })
	}
	compared(definitionsOf(before), definitionsOf(after), same, func(_ DiffKind, _ string, a, b []definition) {
		a, b = withoutCommon(a, b)
		for _, now := range b {
			i := slices.IndexFunc(a, func(d definition) bool { return d.label == now.label })
			if i < 0 {
				d := now.difference(Added)
				d.After = now.text
				found = append(found, d)
				continue
			}
			d := now.difference(Changed)
			d.Before, d.After = a[i].text, now.text
			found = append(found, d)
			a = slices.Delete(a, i, i+1)
		}
		for _, gone := range a {
			d := gone.difference(Removed)
			d.Before = gone.text
			found = append(found, d)
		}
	})
	return found
}

// withoutCommon leaves out what means the same in both.
func withoutCommon(a, b []definition) (onlyA, onlyB []definition) {
	onlyA = slices.Clone(a)
	for _, d := range b {
		i := slices.IndexFunc(onlyA, func(o definition) bool { return o.meaning == d.meaning })
		if i < 0 {
			onlyB = append(onlyB, d)
		} else {
			onlyA = slices.Delete(onlyA, i, i+1)
		}
	}
	return onlyA, onlyB
}

func diffReasons(before, after *engine.Snapshot) (found []Difference) {
	same := func(a, b declared) bool { return a.message == b.message }
	compared(declaredReasons(before), declaredReasons(after), same, func(kind DiffKind, code string, a, b declared) {
		at := b
		if kind == Removed {
			at = a
		}
		found = append(found, Difference{Part: PartReason, Kind: kind, Name: code, Before: a.message, After: b.message, File: at.file, Line: at.line})
	})
	return found
}

// declared is the reason in a rule's metadata.
type declared struct {
	message, file string
	line          int
}

func declaredReasons(s *engine.Snapshot) map[string]declared {
	byCode := map[string]declared{}
	for _, a := range s.Compiler().GetAnnotationSet().Flatten() {
		if code, ok := a.Annotations.Custom["code"].(string); ok && a.Location != nil {
			message, _ := a.Annotations.Custom["message"].(string)
			byCode[code] = declared{message, strings.TrimPrefix(a.Location.File, "/"), a.Location.Row}
		}
	}
	return byCode
}

func diffRoles(before, after models.Catalog) (found []Difference) {
	add := func(kind DiffKind, name string) {
		found = append(found, Difference{Part: PartRole, Kind: kind, Name: name})
	}
	grants := func(c models.Catalog, role string) map[string]bool {
		all := map[string]bool{}
		for entityType, operations := range c.Roles[role] {
			for operation, granted := range operations {
				if granted {
					all[entityType+"/"+operation] = true
				}
			}
		}
		return all
	}
	alike := func(a, b bool) bool { return a == b }
	never := func(_, _ models.Role) bool { return false }
	compared(before.Roles, after.Roles, never, func(kind DiffKind, role string, _, _ models.Role) {
		if kind != Changed {
			add(kind, role)
		}
		compared(grants(before, role), grants(after, role), alike, func(kind DiffKind, what string, _, _ bool) { add(kind, role+" "+what) })
	})
	return found
}

func diffOperations(before, after models.Catalog) (found []Difference) {
	flat := func(c models.Catalog) map[string]models.Operation {
		all := map[string]models.Operation{}
		for name, t := range c.EntityTypes {
			all[name] = models.Operation{Title: t.Title, Description: t.Description}
			for operation, o := range t.Operations {
				all[name+"/"+operation] = o
			}
		}
		return all
	}
	same := func(a, b models.Operation) bool { return a == b }
	compared(flat(before), flat(after), same, func(kind DiffKind, name string, a, b models.Operation) {
		found = append(found, Difference{Part: PartOperation, Kind: kind, Name: name, Before: a.Title, After: b.Title})
	})
	return found
}

// diffWaivers compares what the manifests name, whether or not this server lets them.
func diffWaivers(before, after *engine.Bundle) (found []Difference) {
	named := func(b *engine.Bundle) map[string]bool {
		all := map[string]bool{}
		waives, _ := engine.ReadWaivers(b.Waivers)
		for _, code := range waives {
			all[string(code)] = true
		}
		return all
	}
	compared(named(before), named(after), func(a, b bool) bool { return a == b }, func(kind DiffKind, code string, _, _ bool) {
		found = append(found, Difference{Part: PartWaiver, Kind: kind, Name: code, File: engine.ManifestFile})
	})
	return found
}

// longestText bounds the text of data that a difference tells.
const longestText = 1000

func diffData(before, after map[string]any) (found []Difference) {
	text := func(v any) string {
		content, err := json.Marshal(v)
		if err != nil || v == nil || len(content) > longestText {
			return ""
		}
		return string(content)
	}
	same := func(a, b any) bool {
		x, err1 := json.Marshal(a)
		y, err2 := json.Marshal(b)
		return err1 == nil && err2 == nil && string(x) == string(y)
	}
	inRoot := func(data map[string]any) map[string]any { m, _ := data[engine.Root].(map[string]any); return m }
	compared(inRoot(before), inRoot(after), same, func(kind DiffKind, name string, a, b any) {
		switch name {
		case "catalog", "roles": // told by what they say
		case "routes":
			x, _ := a.(map[string]any)
			y, _ := b.(map[string]any)
			compared(x, y, same, func(kind DiffKind, pattern string, a, b any) {
				found = append(found, Difference{Part: PartRoute, Kind: kind, Name: pattern, Before: text(a), After: text(b)})
			})
		default:
			found = append(found, Difference{Part: PartData, Kind: kind, Name: "data." + engine.Root + "." + name, Before: text(a), After: text(b)})
		}
	})
	return found
}

// diffDecisions has two policies decide what is known beforehand.
func diffDecisions(ctx context.Context, base, s *engine.Snapshot, bundles [2]*engine.Bundle, examples int) (*ReplayReport, error) {
	cases, err := engine.KnownDecisions(base.Catalog(), s.Catalog())
	if err != nil {
		return nil, err
	}
	cases = append(cases, seededRequests(bundles, base.Catalog(), s.Catalog())...)
	r := &replay{policy: s, opts: ReplayOptions{Examples: examples}, rules: ReasonRulesOf(s)}
	found := &replayed{groups: map[groupKey]*ReplayGroup{}}
	for _, c := range cases {
		v, err := ast.InterfaceToValue(c.Input)
		if err != nil {
			return nil, fmt.Errorf("read a known decision: %w", err)
		}
		var decided [2]models.Decision
		for i, policy := range [...]*engine.Snapshot{base, s} {
			if decided[i], err = policy.DecideInput(ctx, ast.NewTerm(v)); err != nil {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("compare decisions: %w", ctx.Err())
				}
				decided[i] = models.Deny(models.PolicyError)
			}
		}
		found.Replayed++
		l := &models.LoggedDecision{Decision: models.Decision{ID: c.Name}, Request: requestIn(c.Input)}
		r.note(found, l, decided[0], decided[1], Compare(decided[0], decided[1], true), false)
	}
	return r.report([]*replayed{found}), nil
}

// requestIn returns the question of an input, as far as it is text.
func requestIn(input object) models.Request {
	request, _ := input["request"].(object)
	text := func(field string) string { s, _ := request[field].(string); return s }
	return models.Request{Domain: text("domain"), EntityType: text("entity_type"), Entity: text("entity"), Operation: text("operation")}
}

// diffRequests asks two policies what proxied requests stand for.
func diffRequests(ctx context.Context, before, after *engine.Snapshot, bundles [2]*engine.Bundle) ([]RequestDifference, error) {
	found := []RequestDifference{}
	lines, err := engine.KnownRequests(bundles)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		var asks [2]string
		for i, s := range [...]*engine.Snapshot{before, after} {
			if asks[i], err = asksFor(ctx, s, line); err != nil {
				return nil, err
			}
		}
		if asks[0] != asks[1] {
			found = append(found, RequestDifference{line, asks[0], asks[1]})
		}
	}
	return found, nil
}

// asksFor returns the question of a request as a scope; "" if no route maps it. An error of
// the policy is told in its place.
func asksFor(ctx context.Context, s *engine.Snapshot, line string) (string, error) {
	method, path, _ := strings.Cut(line, " ")
	segments := []string{}
	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	r := models.HTTPRequest{Method: method, Path: path, Segments: segments, Body: &models.HTTPBody{}}
	need, _, err := s.AskBodyNeed(ctx, r)
	if err == nil && need != nil {
		for _, name := range need.Fields {
			r.Body.Fields = append(r.Body.Fields, models.HTTPField{Name: name, Value: engine.KnownModel})
		}
		for _, name := range need.Each {
			r.Body.Fields = append(r.Body.Fields, models.HTTPField{Name: name, List: true, Values: []string{engine.KnownModel}})
		}
	}
	reqs, ok, err := s.AskRoute(ctx, r)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("compare requests: %w", ctx.Err())
	case err != nil:
		return err.Error(), nil //nolint:nilerr // what a policy makes of a request is what is compared
	case !ok:
		return "", nil
	}
	scopes := make([]string, len(reqs))
	for i, req := range reqs {
		scopes[i] = req.Scope()
	}
	return strings.Join(scopes, " "), nil
}
