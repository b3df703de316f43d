package engine_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
)

// TestPolicyAgreesWithModel holds the Rego against the model over many inputs, most
// of them near something that is allowed: same verdict, same reasons, same scope.
// So it also holds that a request is allowed exactly when there is no reason to
// deny it, and that the invariants are those reasons before any hides another.
func TestPolicyAgreesWithModel(t *testing.T) {
	s := load(t, nil)
	inputs, seed := 104_000, uint64(1)
	if testenv.Long() {
		inputs, seed = 10*inputs, rand.Uint64()
	}
	if fixed := os.Getenv("PATROL_SEED"); fixed != "" {
		require.NoError(t, json.Unmarshal([]byte(fixed), &seed))
	}
	t.Logf("%d inputs; to repeat: PATROL_SEED=%d", inputs, seed)

	const streams = 8 // as many whatever the machine, so that a seed means the same inputs
	var mu sync.Mutex
	seen := map[models.ReasonCode]int{}
	var group sync.WaitGroup
	for stream := range streams {
		group.Go(func() {
			counts := compare(t, s, rand.New(rand.NewPCG(seed, uint64(stream))), inputs/streams)
			mu.Lock()
			defer mu.Unlock()
			for code, n := range counts {
				seen[code] += n
			}
		})
	}
	group.Wait()
	t.Logf("outcomes: %v", seen)
	for _, code := range []models.ReasonCode{
		"allow", models.TokenRevoked, models.TokenExpired, models.UserDisabled, models.UnknownOperation,
		models.DomainUnknown, models.DomainDisabled, models.DomainFrozen, models.NotAMember, models.RoleForbids, models.OutOfScope,
		models.LifetimeExceeded, models.WildcardForbidden, models.ApprovalRequired,
	} {
		assert.GreaterOrEqual(t, seen[code], inputs/100, "%s is hardly ever the outcome", code)
	}
}

func compare(t *testing.T, s *engine.Snapshot, random *rand.Rand, n int) map[models.ReasonCode]int {
	catalog := s.Catalog()
	counts := map[models.ReasonCode]int{}
	for range n {
		input := generate(random)
		if random.IntN(3) == 0 {
			limit(random, input)
		}
		want, scope := judge(input, catalog.Roles, catalog)
		got, err := s.DecideRaw(t.Context(), input)
		if err != nil || got.Allowed != (len(want) == 0) || !slices.Equal(codes(got), want) || got.ScopeID != scope {
			text, _ := json.MarshalIndent(input, "", "  ")
			t.Errorf("the model says %v, scope %q; the policy says %v, scope %q, error %v, on this input:\n%s",
				want, scope, codes(got), got.ScopeID, err, text)
			return counts
		}
		broken, granted, err := s.BrokenOf(input)
		if err != nil || (len(broken) == 0) != (len(want) == 0) || len(want) == 0 && granted != scope || !slices.Equal(want, common(want, broken)) {
			text, _ := json.MarshalIndent(input, "", "  ")
			t.Errorf("the model says %v, scope %q; the invariants say %v, scope %q, error %v, on this input:\n%s", want, scope, broken, granted, err, text)
			return counts
		}
		if got.Allowed {
			counts["allow"]++
		}
		for _, code := range want {
			counts[code]++
		}
	}
	return counts
}

// common are the elements of a that b has as well.
func common(a, b []models.ReasonCode) (both []models.ReasonCode) {
	for _, code := range a {
		if slices.Contains(b, code) {
			both = append(both, code)
		}
	}
	return both
}

// generate draws an input of which most is as the server would make it, and then,
// half of the time, breaks one to three places.
func generate(r *rand.Rand) any {
	domains := []string{"acme", "acme", "acme", "beta", "*"}
	entities := []string{"llama3", "llama3", "phi", "*", "acme", ""}
	types := []string{"models", "models", "models", "models", "models", "datasets", "datasets", "domains", "domains", "domains", "domains", "planes", "*"}
	operations := []string{"read", "read", "read", "read", "read", "write", "write", "write", "execute", "execute", "execute", "fly", "*"}
	roles := []string{"viewer", "member", "member", "admin", "admin", "pilot"}
	statuses := []string{"enabled", "enabled", "enabled", "disabled", "frozen", "open"}

	request := map[string]any{
		"domain": pick(r, domains), "entity_type": pick(r, types),
		"entity": pick(r, entities), "operation": pick(r, operations), "context": map[string]any{},
	}
	if request["entity_type"] == "domains" && r.IntN(2) == 0 {
		request["entity"] = request["domain"]
	}
	scopes := map[string]any{}
	for i := range r.IntN(6) {
		scope := []string{pick(r, domains), pick(r, types), pick(r, operations), pick(r, entities)}
		if r.IntN(2) == 0 { // one that is about what is asked
			scope = []string{request["domain"].(string), request["entity_type"].(string), request["operation"].(string), request["entity"].(string)}
			for _, star := range []int{0, 3} {
				if r.IntN(3) == 0 {
					scope[star] = "*"
				}
			}
		}
		put(scopes, "scope-"+string(rune('a'+i)), scope...)
	}
	input := map[string]any{
		"request": request,
		"token": map[string]any{
			"id": "t", "name": "ci", "revoked": r.IntN(12) == 0,
			"created_at": 100, "expires_at": 1000 + r.IntN(20)/19*-900, "scopes": scopes,
		},
		"user": map[string]any{"id": "u", "email": "e", "admin": r.IntN(4) == 0, "disabled": r.IntN(12) == 0},
		"now":  990 + r.IntN(11),
	}
	if r.IntN(10) > 0 {
		id := request["domain"]
		if r.IntN(20) == 0 {
			id = pick(r, domains)
		}
		input["domain"] = map[string]any{"id": id, "status": pick(r, statuses)}
	}
	if r.IntN(5) > 0 {
		input["membership"] = map[string]any{"role": pick(r, roles)}
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			damage(r, input)
		}
	}
	return input
}

// generateLimited draws an input of which limits decide, for the most part.
func generateLimited(r *rand.Rand) any {
	for {
		input := generate(r)
		limit(r, input)
		if at(input, "domain", "limits") == nil {
			continue
		}
		put(input.(map[string]any), "scope-z", "token", "scopes", "acme", "models", "read", pick(r, []string{"llama3", "*"}))
		return input
	}
}

// limit has the domain of an input set limits, which the token may keep, and half
// of the time breaks one to three places about them.
func limit(r *rand.Rand, input any) {
	domain, _ := at(input, "domain").(map[string]any)
	token, _ := at(input, "token").(map[string]any)
	if domain == nil || token == nil {
		return
	}
	domain["limits"] = map[string]any{
		"max_lifetime": pick(r, []any{0, 0, 2000, 889, 890, 895, 900}), "wildcards": r.IntN(2) == 0, "approval": r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		token["approvals"] = map[string]any{pick(r, []string{"acme", "acme", "acme", "beta", "*"}): 100}
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			damageAt(r, input, pick(r, limitPlaces))
		}
	}
}

var limitPlaces = [][]string{
	{"domain", "limits"},
	{"domain", "limits", "max_lifetime"},
	{"domain", "limits", "wildcards"},
	{"domain", "limits", "approval"},
	{"token", "created_at"},
	{"token", "approvals"},
	{"token", "approvals", "acme"},
}

// places are where an input is broken, each as often as it is listed.
var places = [][]string{
	{"now"},
	{"request"},
	{"request", "domain"},
	{"request", "entity_type"},
	{"request", "entity"},
	{"request", "operation"},
	{"request", "context"},
	{"token"},
	{"token", "revoked"},
	{"token", "expires_at"},
	{"token", "created_at"},
	{"token", "scopes"},
	{"token", "scopes", "acme"},
	{"token", "scopes", "*"},
	{"token", "scopes", "acme", "models"},
	{"token", "scopes", "acme", "models", "read"},
	{"token", "scopes", "acme", "models", "read", "llama3"},
	{"token", "scopes", "acme", "models", "read", "*"},
	{"user"},
	{"user", "admin"},
	{"user", "disabled"},
	{"domain"},
	{"domain", "id"},
	{"domain", "status"},
	{"membership"},
	{"membership", "role"},
}

// damage takes one place of the input away, or puts something there that has the
// wrong type or is otherwise odd.
func damage(r *rand.Rand, input map[string]any) { damageAt(r, input, pick(r, places)) }

func damageAt(r *rand.Rand, input any, path []string) {
	parent, ok := input.(map[string]any)
	if !ok {
		return
	}
	for _, key := range path[:len(path)-1] {
		child, ok := parent[key].(map[string]any)
		if !ok {
			return
		}
		parent = child
	}
	last := path[len(path)-1]
	if r.IntN(4) == 0 {
		delete(parent, last)
		return
	}
	parent[last] = pick(r, []any{
		nil, true, false, 0, -1, 1, 5, 1e300, 995.5, "", "0", "1", "995", "1000", "true", "false", "null", "acme", "*", "read", "models", "admin", "enabled",
		[]any{},
		[]any{"acme"},
		[]any{"*"},
		[]any{0},
		[]any{map[string]any{}},
		map[string]any{},
		map[string]any{"*": "x"},
		map[string]any{"role": "admin"},
		map[string]any{"read": map[string]any{"*": "x"}},
		map[string]any{"acme": map[string]any{"models": map[string]any{"read": map[string]any{"*": nil, "llama3": false}}}},
	})
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func put(object map[string]any, value string, path ...string) {
	for _, key := range path[:len(path)-1] {
		child, ok := object[key].(map[string]any)
		if !ok {
			child = map[string]any{}
			object[key] = child
		}
		object = child
	}
	object[path[len(path)-1]] = value
}
