package workbench

import (
	"iter"
	"maps"
	"slices"

	"patrol/models"
	"patrol/policies/engine"
)

// The made-up people and things of the safety suite.
const (
	safeDomain = "acme"
	safeEntity = "thing"
	safeScope  = "scope-1"
	elsewhere  = "somewhere-else"
)

// moments are the times at which the suite looks for what a policy allows: some
// let in on working days only, or at night.
var moments = []int64{
	1790589600, // Monday, 2026-09-28 10:00 UTC
	1790632800, // that night at 22:00
	1791021600, // Saturday at 10:00
	1791108000, // Sunday at 10:00
}

// candidates are the requests that roles and catalog permit: each operation with each role that
// has it, and as a platform admin.
func candidates(catalog models.Catalog) (all []allowance) {
	for entityType, operation := range operations(catalog) {
		a := allowance{catalog: catalog, domain: safeDomain, entityType: entityType, entity: safeEntity, operation: operation}
		if entityType == engine.DomainsType {
			a.entity = safeDomain
		}
		for _, role := range slices.Sorted(maps.Keys(catalog.Roles)) {
			if catalog.Roles[role].Permits(entityType, operation) {
				member := a
				member.role = role
				all = append(all, member)
			}
		}
		a.admin = true
		all = append(all, a)
	}
	return all
}

// operations goes through the catalog's entity types and operations in their order.
func operations(catalog models.Catalog) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, entityType := range slices.Sorted(maps.Keys(catalog.EntityTypes)) {
			for _, operation := range slices.Sorted(maps.Keys(catalog.EntityTypes[entityType].Operations)) {
				if !yield(entityType, operation) {
					return
				}
			}
		}
	}
}

// facts are the input in which everything speaks for the request, with one scope
// for exactly that.
func (a *allowance) facts(now int64) object {
	input := object{
		"request": object{
			"domain": a.domain, "entity_type": a.entityType, "entity": a.entity, "operation": a.operation, "context": object{},
		},
		"token": object{
			"id": "aaaaaaaaaaaaaaaa", "name": "ci", "revoked": false, "created_at": now - 3600, "expires_at": now + 3600,
			"scopes": scopes(a.domain, a.entityType, a.operation, a.entity),
		},
		"user":   object{"id": "u1", "email": "ann@example.com", "admin": a.admin, "disabled": false},
		"domain": object{"id": a.domain, "status": "enabled"},
		"now":    now,
	}
	if !a.admin {
		input["membership"] = object{"role": a.role}
	}
	return input
}

func scopes(domain, entityType, operation, entity string) object {
	return object{domain: object{entityType: object{operation: object{entity: safeScope}}}}
}

// change is one difference to an input.
type change struct {
	path  []string
	value any // absent to take it away
}

type nothing struct{}

var absent = nothing{}

func put(value any, path ...string) change { return change{path, value} }

// with returns a's input with changes.
func (a *allowance) with(changes ...change) any {
	input := engine.Clone(a.input).(object)
	for _, c := range changes {
		at := input
		for _, key := range c.path[:len(c.path)-1] {
			at = at[key].(object)
		}
		last := c.path[len(c.path)-1]
		if c.value == absent {
			delete(at, last)
		} else {
			at[last] = c.value
		}
	}
	return input
}

// each returns a's input with each of the changes by itself.
func (a *allowance) each(changes ...change) (inputs []any) {
	for _, c := range changes {
		inputs = append(inputs, a.with(c))
	}
	return inputs
}

// instead returns a's input with each of the values at the path.
func (a *allowance) instead(path []string, values ...any) (inputs []any) {
	for _, v := range values {
		inputs = append(inputs, a.with(change{path, v}))
	}
	return inputs
}

// always makes each of the changes to every input.
func always(changes ...change) func(*allowance) []any {
	return func(a *allowance) []any { return a.each(changes...) }
}

// values puts each of the values at the path of every input.
func values(path []string, values ...any) func(*allowance) []any {
	return func(a *allowance) []any { return a.instead(path, values...) }
}

// forMembers leaves out platform admins, whom the case does not bind.
func forMembers(variants func(*allowance) []any) func(*allowance) []any {
	return func(a *allowance) []any {
		if a.admin {
			return nil
		}
		return variants(a)
	}
}

// together makes all inputs that its parts make.
func together(parts ...func(*allowance) []any) func(*allowance) []any {
	return func(a *allowance) (inputs []any) {
		for _, part := range parts {
			inputs = append(inputs, part(a)...)
		}
		return inputs
	}
}

func keys(path ...string) []string { return path }

// grant puts other scopes in place of the token's, made of a's.
func grant(granted func(*allowance) object) func(*allowance) []any {
	return func(a *allowance) []any { return []any{a.with(put(granted(a), "token", "scopes"))} }
}

// safetySuite lists the requests that no policy may allow. Names are for ever: configurations hold
// them. Titles complete "it allows …".
var safetySuite = []safetyCase{
	{
		SafetyCase{"token_revoked", "a token that was revoked"},
		nil, always(put(true, "token", "revoked")),
	},
	{
		SafetyCase{"token_expired", "a token that has expired, in the very second too"},
		nil, func(a *allowance) []any {
			now := a.input["now"].(int64)
			return a.instead(keys("token", "expires_at"), now, now-1, now-3600, int64(0), int64(-1))
		},
	},
	{
		SafetyCase{"token_absent", "a request without a token"},
		nil, together(always(put(absent, "token"), put(object{}, "token")), values(keys("token"), nil, true, "token", []any{})),
	},
	{
		SafetyCase{"user_disabled", "a token whose owner is disabled"},
		nil, always(put(true, "user", "disabled")),
	},
	{
		SafetyCase{"user_absent", "a token whose owner is gone"},
		nil, together(always(put(absent, "user"), put(object{}, "user")), values(keys("user"), nil, true, "u1", []any{})),
	},
	{
		SafetyCase{"domain_absent", "a request in a domain that does not exist"},
		nil, together(always(put(absent, "domain"), put(object{}, "domain")), values(keys("domain"), nil, true, safeDomain, []any{})),
	},
	{
		SafetyCase{"domain_other", "a request in one domain on the facts of another"},
		nil, always(put(elsewhere, "domain", "id"), put(elsewhere, "request", "domain")),
	},
	{
		SafetyCase{"domain_disabled", "a disabled domain to someone who administers neither it nor the platform"},
		nil, forMembers(func(a *allowance) []any {
			if a.catalog.Roles[a.role].AdministersDomain() {
				return nil
			}
			return a.each(put("disabled", "domain", "status"))
		}),
	},
	{
		SafetyCase{"domain_frozen", "a frozen domain to someone who does not administer the platform"},
		nil, forMembers(always(put("frozen", "domain", "status"))),
	},
	{
		SafetyCase{"membership_absent", "someone who is no member of the domain and no platform admin"},
		nil, forMembers(together(
			always(put(absent, "membership"), put(object{}, "membership")), values(keys("membership"), nil, true, "member", []any{}),
		)),
	},
	{
		SafetyCase{"role_unknown", "a role that does not exist"},
		nil, forMembers(values(keys("membership", "role"), "no-such-role", "", "*")),
	},
	{
		SafetyCase{"role_forbids", "what the roles data do not permit the member's role"},
		nil, forMembers(func(a *allowance) (inputs []any) {
			for _, role := range slices.Sorted(maps.Keys(a.catalog.Roles)) {
				if !a.catalog.Roles[role].Permits(a.entityType, a.operation) {
					inputs = append(inputs, a.with(put(role, "membership", "role")))
				}
			}
			for entityType, operation := range operations(a.catalog) {
				if !a.catalog.Roles[a.role].Permits(entityType, operation) {
					inputs = append(inputs, a.ask(entityType, operation))
				}
			}
			return inputs
		}),
	},
	{
		SafetyCase{"operation_unknown", "an operation that the catalog does not have, or not on this entity type"},
		nil, func(a *allowance) []any {
			inputs := []any{a.ask(a.entityType, "no-such-operation"), a.ask(a.entityType, "*"), a.ask(a.entityType, "")}
			for _, operation := range operations(a.catalog) {
				if _, known := a.catalog.EntityTypes[a.entityType].Operations[operation]; !known {
					inputs = append(inputs, a.ask(a.entityType, operation))
				}
			}
			return inputs
		},
	},
	{
		SafetyCase{"entity_type_unknown", "an entity type that the catalog does not have"},
		nil, func(a *allowance) []any {
			return []any{a.ask("no-such-type", a.operation), a.ask("*", a.operation), a.ask("", a.operation)}
		},
	},
	{
		SafetyCase{"scope_absent", "a token that has no scopes"},
		nil, together(always(put(absent, "token", "scopes")), values(keys("token", "scopes"), object{}, nil, []any{}, true, "*")),
	},
	{
		SafetyCase{"scope_other_domain", "a domain that no scope of the token names"},
		nil, grant(func(a *allowance) object { return scopes(elsewhere, a.entityType, a.operation, a.entity) }),
	},
	{
		SafetyCase{"scope_other_type", "an entity type that no scope of the token names"},
		nil, grant(func(a *allowance) object { return scopes(a.domain, "another-type", a.operation, a.entity) }),
	},
	{
		SafetyCase{"scope_other_operation", "an operation that no scope of the token names"},
		nil, grant(func(a *allowance) object { return scopes(a.domain, a.entityType, "another-operation", a.entity) }),
	},
	{
		SafetyCase{"scope_other_entity", "an entity that no scope of the token names"},
		nil, grant(func(a *allowance) object { return scopes(a.domain, a.entityType, a.operation, "another") }),
	},
	{
		SafetyCase{"scope_collection", "the collection to a token that has a scope for one entity"},
		nil, func(a *allowance) []any { return a.each(put("*", "request", "entity")) },
	},
	{
		SafetyCase{"scope_star_type", "an entity type or operation by a scope that says * for it"},
		nil, together(
			grant(func(a *allowance) object { return scopes(a.domain, "*", a.operation, a.entity) }),
			grant(func(a *allowance) object { return scopes(a.domain, a.entityType, "*", a.entity) }),
			grant(func(*allowance) object { return scopes("*", "*", "*", "*") }),
		),
	},
	{
		SafetyCase{"domain_not_itself", "a request for one domain as the entity of another"},
		nil, func(a *allowance) []any {
			if a.entityType != engine.DomainsType {
				return nil
			}
			other := put(elsewhere, "request", "entity")
			return []any{
				a.with(other, put(scopes(a.domain, a.entityType, a.operation, elsewhere), "token", "scopes")),
				a.with(other, put(scopes(a.domain, a.entityType, a.operation, "*"), "token", "scopes")),
			}
		},
	},
	{
		SafetyCase{"limit_lifetime", "a token that is older than the domain takes them"},
		nil, limited(object{"max_lifetime": 1800, "wildcards": true, "approval": false}),
	},
	{
		SafetyCase{"limit_wildcards", "a scope with * in a domain that takes none"},
		nil, func(a *allowance) (inputs []any) {
			limits := put(object{"max_lifetime": 0, "wildcards": false, "approval": false}, "domain", "limits")
			for _, granted := range []object{
				scopes("*", a.entityType, a.operation, a.entity), scopes(a.domain, a.entityType, a.operation, "*"), scopes("*", a.entityType, a.operation, "*"),
			} {
				inputs = append(inputs, a.with(limits, put(granted, "token", "scopes")))
			}
			return inputs
		},
	},
	{
		SafetyCase{"limit_approval", "a token that the domain has not approved, though it demands it"},
		nil, together(
			limited(object{"max_lifetime": 0, "wildcards": true, "approval": true}),
			func(a *allowance) []any {
				limits := put(object{"max_lifetime": 0, "wildcards": true, "approval": true}, "domain", "limits")
				return []any{a.with(limits, put(object{elsewhere: 1}, "token", "approvals")), a.with(limits, put(object{a.domain: nil}, "token", "approvals"))}
			},
		),
	},
	{
		SafetyCase{"types_limits", "a domain whose limits are of another type than they should be"},
		nil, together(
			values(keys("domain", "limits"), false, true, "none", 0, object{}, []any{},
				object{"max_lifetime": nil, "wildcards": true, "approval": false}, object{"max_lifetime": "0", "wildcards": true, "approval": false},
				object{"max_lifetime": 0, "wildcards": true, "approval": nil}, object{"max_lifetime": 0, "wildcards": true, "approval": 0},
				object{"max_lifetime": 0, "wildcards": true}),
			func(a *allowance) []any {
				return []any{a.with(
					put(object{"max_lifetime": 0, "wildcards": nil, "approval": false}, "domain", "limits"),
					put(scopes(a.domain, a.entityType, a.operation, "*"), "token", "scopes"),
				)}
			},
		),
	},
	{
		SafetyCase{"input_empty", "a request of which nothing is known"},
		[]any{object{}, object{"request": object{}}, object{"request": object{}, "now": moments[0]}},
		always(put(absent, "request"), put(object{}, "request"), put(absent, "now")),
	},
	{
		SafetyCase{"input_no_object", "an input that is not even an object"},
		[]any{nil, true, "allow", 1, []any{}, []any{object{}}},
		nil,
	},
	{
		SafetyCase{"types_token", "a token whose facts are of another type than they should be"},
		nil, together(
			values(keys("token", "revoked"), nil, "false", 0, "", object{}, []any{}), always(put(absent, "token", "revoked")),
			values(keys("token", "expires_at"), nil, "9999999999", true, object{}, []any{}), always(put(absent, "token", "expires_at")),
			func(a *allowance) (inputs []any) {
				for _, id := range []any{nil, "", true, false, 1, object{}} {
					s := object{a.domain: object{a.entityType: object{a.operation: object{a.entity: id}}}}
					inputs = append(inputs, a.with(put(s, "token", "scopes")))
				}
				return inputs
			},
		),
	},
	{
		SafetyCase{"types_user", "an owner whose facts are of another type than they should be"},
		nil, together(
			values(keys("user", "disabled"), nil, "false", 0, "", object{}), always(put(absent, "user", "disabled")),
			forMembers(func(a *allowance) (inputs []any) {
				for _, admin := range []any{nil, "true", 1, object{}, []any{true}} {
					inputs = append(inputs, a.with(put(admin, "user", "admin"), put(absent, "membership")))
				}
				return inputs
			}),
		),
	},
	{
		SafetyCase{"types_domain", "a domain whose facts are of another type than they should be, or whose status does not exist"},
		nil, together(
			values(keys("domain", "status"), nil, "", "open", true, []any{"enabled"}), always(put(absent, "domain", "status")),
			values(keys("domain", "id"), nil, "", true, []any{safeDomain}), always(put(absent, "domain", "id")),
		),
	},
	{
		SafetyCase{"types_membership", "a membership whose role is of another type than it should be"},
		nil, forMembers(func(a *allowance) []any {
			return a.instead(keys("membership", "role"), nil, true, 1, []any{a.role}, object{a.role: true})
		}),
	},
	{
		SafetyCase{"types_request", "a request whose fields are of another type than they should be"},
		nil, together(
			values(keys("request"), nil, true, "request", []any{}),
			func(a *allowance) (inputs []any) {
				for _, field := range []string{"domain", "entity_type", "entity", "operation"} {
					was := a.input["request"].(object)[field]
					inputs = append(inputs, a.with(put(absent, "request", field)))
					inputs = append(inputs, a.instead(keys("request", field), nil, true, 1, []any{was}, object{"id": was})...)
				}
				return inputs
			},
		),
	},
	{
		SafetyCase{"types_now", "a time that is none"},
		nil, values(keys("now"), nil, "0", true, []any{0}, object{}),
	},
}

// limited sets limits of the domain that the token does not keep.
func limited(limits object) func(*allowance) []any { return always(put(limits, "domain", "limits")) }

// ask returns a's input with another entity type and operation asked for, and a
// scope for just that.
func (a *allowance) ask(entityType, operation string) any {
	entity := a.entity
	if entityType == engine.DomainsType {
		entity = a.domain
	}
	return a.with(
		put(entityType, "request", "entity_type"), put(operation, "request", "operation"), put(entity, "request", "entity"),
		put(scopes(a.domain, entityType, operation, entity), "token", "scopes"),
	)
}
