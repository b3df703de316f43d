package engine

import (
	"bytes"
	_ "embed" // what is kept of the default policy
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"patrol/models"
)

// What the default policy once decided, and what it took requests for. The tests hold
// every later version of it against them.
var (
	//go:embed testdata/decisions.jsonl
	goldenDecisions []byte
	//go:embed testdata/routes.jsonl
	goldenRoutes []byte
)

// KnownDecision is an input with a name for people.
type KnownDecision struct {
	Name  string
	Input object
}

// The domain and the entities of the known decisions.
const (
	knownDomain = "acme"
	KnownModel  = "llama3"
	knownNow    = 1_000_000
)

// KnownDecisions are the golden ones, and each operation of the catalogs as each of
// their roles asks for it, as it should be and with one thing in its way.
func KnownDecisions(before, after models.Catalog) ([]KnownDecision, error) {
	var all []KnownDecision
	dec := json.NewDecoder(bytes.NewReader(goldenDecisions))
	dec.UseNumber()
	for {
		var line struct {
			Input object `json:"input"`
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the golden decisions: %w", err)
		}
		all = append(all, KnownDecision{fmt.Sprintf("golden decision %d", len(all)+1), line.Input})
	}
	operations, who := map[[2]string]bool{}, map[string]object{
		"a stranger":       {},
		"a platform admin": {"user": KnownUser(true)},
	}
	for _, c := range [...]models.Catalog{before, after} {
		for name, t := range c.EntityTypes {
			for operation := range t.Operations {
				operations[[2]string{name, operation}] = true
			}
		}
		for role := range c.Roles {
			who[role] = object{"membership": object{"role": role}}
		}
	}
	for operation := range operations {
		for person, theirs := range who {
			for _, c := range circumstances {
				input := KnownInput(operation[0], operation[1])
				maps.Copy(input, theirs)
				for _, e := range c.edits {
					input = Edited(input, e.Path, e.Value)
				}
				all = append(all, KnownDecision{person + ", " + c.name, input})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b KnownDecision) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// KnownUser is the owner of the token of a known decision.
func KnownUser(admin bool) map[string]any {
	return object{"id": "u", "email": "u@example.com", "admin": admin, "disabled": false}
}

// KnownInput is a request for an operation that the token's one scope covers.
func KnownInput(entityType, operation string) map[string]any {
	entity := KnownModel
	if entityType == "domains" {
		entity = knownDomain
	}
	return object{
		"request": object{"domain": knownDomain, "entity_type": entityType, "entity": entity, "operation": operation, "context": object{}},
		"token": object{
			"id": "t", "name": "ci", "revoked": false, "created_at": knownNow - 1000, "expires_at": knownNow + 1000,
			"scopes": object{knownDomain: object{entityType: object{operation: object{entity: "s"}}}},
		},
		"user":   KnownUser(false),
		"domain": object{"id": knownDomain, "status": string(models.DomainEnabled)},
		"now":    knownNow,
	}
}

// circumstances are single obstacles to a request.
var circumstances = []struct {
	name  string
	edits []Edit
}{
	{"with a scope for it", nil},
	{"without a scope for it", []Edit{{[]string{"token", "scopes"}, object{}}}},
	{"with a scope for it, asking for all", []Edit{{[]string{"request", "entity"}, "*"}}},
	{"with a revoked token", []Edit{{[]string{"token", "revoked"}, true}}},
	{"with an expired token", []Edit{{[]string{"token", "expires_at"}, knownNow}}},
	{"with a disabled account", []Edit{{[]string{"user", "disabled"}, true}}},
	{"in a disabled domain", []Edit{{[]string{"domain", "status"}, string(models.DomainIsDisabled)}}},
	{"in a frozen domain", []Edit{{[]string{"domain", "status"}, string(models.DomainIsFrozen)}}},
	{"in a domain that does not exist", []Edit{{[]string{"domain"}, nil}}},
	{"with a token that is too old for the domain", []Edit{{[]string{"domain", "limits"}, object{"max_lifetime": 10, "wildcards": true, "approval": false}}}},
	{"with a token that the domain has not approved", []Edit{{[]string{"domain", "limits"}, object{"max_lifetime": 0, "wildcards": true, "approval": true}}}},
	{"with a token that the domain has withdrawn", []Edit{{[]string{"token", "withdrawn"}, object{knownDomain: knownNow - 1}}}},
	{"from an address that the token is for", []Edit{{[]string{"token", "allowed_ips"}, []any{"203.0.113.0/24"}}, {[]string{"client"}, object{"ip": "203.0.113.7"}}}},
	{"from another address than the token is for", []Edit{{[]string{"token", "allowed_ips"}, []any{"203.0.113.0/24"}}, {[]string{"client"}, object{"ip": "203.0.114.7"}}}},
}

// KnownRequests are the golden requests, and one for each route of two bundles, as
// method and path.
func KnownRequests(bundles [2]*Bundle) ([]string, error) {
	var patterns []string
	for _, b := range bundles {
		inRoot, _ := b.Data[Root].(map[string]any)
		routes, _ := inRoot["routes"].(map[string]any)
		patterns = slices.AppendSeq(patterns, maps.Keys(routes))
	}
	return requestLines(patterns)
}

// requestLines are the golden requests, and one for each pattern of a route.
func requestLines(patterns []string) ([]string, error) {
	lines := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(goldenRoutes))
	for {
		var line struct {
			Request string `json:"request"`
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the golden requests: %w", err)
		}
		lines[line.Request] = true
	}
	for _, pattern := range patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			continue
		}
		segments := strings.Split(path, "/")
		for i, segment := range segments {
			switch segment {
			case "*":
				segments[i] = "one"
			case "**":
				segments[i] = "one/two"
			}
		}
		lines[method+" /proxy/"+knownDomain+strings.Join(segments, "/")] = true
	}
	return slices.Sorted(maps.Keys(lines)), nil
}

// object is a JSON object.
type object = map[string]any

// Edit puts a value at a place in the input.
type Edit struct {
	Path  []string `json:"path"`
	Value any      `json:"value"`
}

// Edited returns o with a value at a path. What is in its way is replaced; nothing is
// written to.
func Edited(o map[string]any, path []string, value any) map[string]any {
	if len(path) == 0 {
		return o
	}
	c := maps.Clone(o)
	if c == nil {
		c = object{}
	}
	if len(path) == 1 {
		c[path[0]] = value
		return c
	}
	inner, _ := c[path[0]].(object)
	c[path[0]] = Edited(inner, path[1:], value)
	return c
}

// Clone copies the objects in a value.
func Clone(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	c := make(object, len(o))
	for k, x := range o {
		c[k] = Clone(x)
	}
	return c
}
