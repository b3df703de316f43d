package workbench

import (
	"context"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// CheckSafety is that part of Check alone; running the tests of a policy takes much
// longer.
func CheckSafety(ctx context.Context, src engine.Source, waive ...string) (*Report, error) {
	src.Waive = waive
	s, err := engine.Load(ctx, src)
	if err != nil {
		return nil, err
	}
	b, err := src.Parse()
	if err != nil {
		return nil, err
	}
	c := &check{
		src: src, bundle: b, report: &Report{}, snapshot: s,
		failed: map[engine.Stage]bool{}, ran: map[engine.Stage]bool{},
	}
	return c.report, c.safety(ctx)
}

// ChangeSets are all sets of changes that a remedy is looked for among, with what
// each counts.
func ChangeSets(catalog models.Catalog, input map[string]any) (sets [][]Change, costs []int) {
	for _, set := range changeSets(catalog, input) {
		sets, costs = append(sets, set.changes), append(costs, set.cost)
	}
	return sets, costs
}

// Names returns the warnings of [Check] about names of models in a policy.
func Names(src engine.Source, kinds ...string) ([]engine.Finding, error) {
	b, err := src.Parse()
	if err != nil {
		return nil, err
	}
	c := &check{src: src, opts: CheckOptions{Kinds: kinds}, bundle: b, report: &Report{}}
	c.names()
	return c.report.Warnings, nil
}

// CheckRules is that part of Check alone, with what comes before it.
func CheckRules(ctx context.Context, src engine.Source) (*Report, error) {
	c := &check{src: src, report: &Report{}, failed: map[engine.Stage]bool{}, ran: map[engine.Stage]bool{}, rulesOnly: true}
	c.opts.Now = time.Unix(1790500000, 0)
	c.opts.Options = []engine.Option{engine.WithTimeout(10 * time.Second)}
	return c.report, c.run(ctx)
}
