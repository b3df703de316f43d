package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"sigs.k8s.io/yaml"

	"patrol/models"
	"patrol/policies"
)

// choosers is data.patrol.choosers: names by which a client could choose what nobody
// judges. The fields of bodies among them get into hints; the others are compared here,
// for a policy that looked at the headers of each request would have to be asked about
// each.
type choosers struct {
	entityTypes                []string
	queryNames, query, headers *models.Names
}

// chooserLists is the document.
type chooserLists struct {
	EntityTypes []string `json:"entity_types"`
	QueryNames  []string `json:"query_names"`
	Query       []string `json:"query"`
	Headers     []string `json:"headers"`
}

// defaultChoosers is the document that is built in.
var defaultChoosers = sync.OnceValues(func() (map[string]any, error) {
	content, err := policies.FS.ReadFile("patrol/choosers/data.yaml")
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("read the built-in choosers: %w", err)
	}
	return doc, nil
})

// chooseFrom takes the names from the data; where these have none, it gives them those that are
// built in.
func (s *Snapshot) chooseFrom(data map[string]any) error {
	inRoot, _ := data[Root].(map[string]any)
	if _, ok := inRoot["choosers"]; !ok && inRoot != nil {
		builtIn, err := defaultChoosers()
		if err != nil {
			return err
		}
		inRoot["choosers"] = builtIn
	}
	content, err := json.Marshal(inRoot["choosers"])
	if err != nil {
		return fmt.Errorf("read the choosers: %w", err)
	}
	var lists chooserLists
	if err := json.Unmarshal(content, &lists); err != nil {
		return fmt.Errorf("read the choosers: %w", err)
	}
	s.choosers = choosers{lists.EntityTypes, models.NewNames(lists.QueryNames), models.NewNames(lists.Query), models.NewNames(lists.Headers)}
	return nil
}

// Chooses reports whether a proxied request that asks for reqs has, in its headers or query, a
// name by which some server would let it choose something else; see data.patrol.choosers. need
// is how its body was read, nil if it was not.
func (s *Snapshot) Chooses(r models.HTTPRequest, need *models.BodyNeed, reqs []models.Request) (what string, chooses bool) {
	for name := range r.Query {
		if r.Body != nil && need.Looks(name) {
			return "a query parameter", true
		}
	}
	if !slices.ContainsFunc(reqs, func(req models.Request) bool { return slices.Contains(s.choosers.entityTypes, req.EntityType) }) {
		return "", false
	}
	if r.HeaderNames != nil {
		for name := range r.HeaderNames {
			if s.choosers.headers.Has(name) {
				return "a header", true
			}
		}
	}
	for name, values := range r.Query {
		if s.choosers.query.Has(name) {
			return "a query parameter", true
		}
		if s.choosers.queryNames.Has(name) && !says(values, r, reqs) {
			return "a query parameter", true
		}
	}
	return "", false
}

// says reports whether the values of a query parameter say what is judged anyway.
func says(values []string, r models.HTTPRequest, reqs []models.Request) bool {
	if r.Body != nil || len(reqs) == 0 {
		return false
	}
	entity := reqs[0].Entity
	return entity == models.Any || len(values) == 1 && values[0] == entity
}
