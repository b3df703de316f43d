package enginetest

import "math/rand/v2"

// Generate draws an input of which most is as the server would make it, and then,
// half of the time, breaks one to three places.
func Generate(r *rand.Rand) any {
	domains := []string{"acme", "acme", "acme", "beta", "*"}
	entities := []string{"llama3", "llama3", "phi", "*", "acme", ""}
	types := []string{"models", "models", "models", "models", "models", "datasets", "datasets", "domains", "domains", "domains", "domains", "planes", "*"}
	operations := []string{"read", "read", "read", "read", "read", "write", "write", "write", "execute", "execute", "execute", "fly", "*"}
	roles := []string{"viewer", "member", "member", "admin", "admin", "pilot"}
	statuses := []string{"enabled", "enabled", "enabled", "disabled", "frozen", "open"}

	request := map[string]any{
		"domain": Pick(r, domains), "entity_type": Pick(r, types),
		"entity": Pick(r, entities), "operation": Pick(r, operations), "context": map[string]any{},
	}
	if request["entity_type"] == "domains" && r.IntN(2) == 0 {
		request["entity"] = request["domain"]
	}
	scopes := map[string]any{}
	for i := range r.IntN(6) {
		scope := []string{Pick(r, domains), Pick(r, types), Pick(r, operations), Pick(r, entities)}
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
			id = Pick(r, domains)
		}
		input["domain"] = map[string]any{"id": id, "status": Pick(r, statuses)}
	}
	if r.IntN(5) > 0 {
		input["membership"] = map[string]any{"role": Pick(r, roles)}
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			damage(r, input)
		}
	}
	return input
}

// GenerateLimited draws an input of which limits decide, for the most part.
func GenerateLimited(r *rand.Rand) any {
	for {
		input := Generate(r)
		Limit(r, input)
		if At(input, "domain", "limits") == nil {
			continue
		}
		put(input.(map[string]any), "scope-z", "token", "scopes", "acme", "models", "read", Pick(r, []string{"llama3", "*"}))
		return input
	}
}

// Limit has the domain of an input set limits, which the token may keep, and half
// of the time breaks one to three places about them.
func Limit(r *rand.Rand, input any) {
	domain, _ := At(input, "domain").(map[string]any)
	token, _ := At(input, "token").(map[string]any)
	if domain == nil || token == nil {
		return
	}
	domain["limits"] = map[string]any{
		"max_lifetime": Pick(r, []any{0, 0, 2000, 889, 890, 895, 900}), "wildcards": r.IntN(2) == 0, "approval": r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		token["approvals"] = map[string]any{Pick(r, []string{"acme", "acme", "acme", "beta", "*"}): 100}
	}
	if r.IntN(3) == 0 {
		token["withdrawn"] = map[string]any{Pick(r, []string{"acme", "acme", "beta", "*"}): 100}
	}
	if r.IntN(4) == 0 {
		token["allowed_ips"] = Pick(r, [][]any{
			{"203.0.113.0/24"}, {"198.51.100.7/32", "203.0.113.7/32"}, {"2001:db8::/32"}, {"0.0.0.0/0"}, {"::/0"}, {"0.0.0.0/0", "::/0"}, {"10.0.0.0/8"},
		})
	}
	if document, ok := input.(map[string]any); ok && r.IntN(4) > 0 {
		document["client"] = map[string]any{"ip": Pick(r, []string{"203.0.113.7", "203.0.113.7", "198.51.100.7", "10.1.2.3", "2001:db8::1", "fe80::1"})}
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			damageAt(r, input, Pick(r, limitPlaces))
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
	{"token", "withdrawn"},
	{"token", "withdrawn", "acme"},
	{"token", "allowed_ips"},
	{"client"},
	{"client", "ip"},
}

// places lists the paths at which inputs are damaged. A path that is listed twice is damaged
// twice as often.
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
func damage(r *rand.Rand, input map[string]any) { damageAt(r, input, Pick(r, places)) }

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
	parent[last] = Pick(r, []any{
		nil, true, false, 0, -1, 1, 5, 1e300, 995.5, "", "0", "1", "995", "1000", "true", "false", "null", "acme", "*", "read", "models", "admin", "enabled",
		[]any{},
		[]any{"acme"},
		[]any{"*"},
		[]any{0},
		[]any{map[string]any{}},
		"203.0.113.7", "203.0.113.0/24", "fe80::1%eth0",
		[]any{"203.0.113.7", nil, "0.0.0.0/0"},
		map[string]any{},
		map[string]any{"*": "x"},
		map[string]any{"role": "admin"},
		map[string]any{"read": map[string]any{"*": "x"}},
		map[string]any{"acme": map[string]any{"models": map[string]any{"read": map[string]any{"*": nil, "llama3": false}}}},
	})
}

// Pick picks one of a list.
func Pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

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

// At returns what is at the path of keys in a JSON document, nil if there is
// nothing.
func At(doc any, path ...string) any {
	for _, key := range path {
		object, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = object[key]
	}
	return doc
}
