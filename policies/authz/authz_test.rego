package patrol.authz_test

import data.patrol.authz

# The request that everything is tried on: a member reads a model, with a token
# that may. Each case patches it.
allowed := {
	"request": {"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read", "context": {}},
	"token": {
		"id": "aaaaaaaaaaaaaaaa",
		"name": "ci",
		"revoked": false,
		"created_at": 1790000000,
		"expires_at": 1792592000,
		"scopes": {"acme": {"models": {"read": {"*": "scope-1"}}}},
	},
	"user": {"id": "u1", "email": "ann@example.com", "admin": false, "disabled": false},
	"domain": {"id": "acme", "status": "enabled"},
	"membership": {"role": "member"},
	"now": 1790500000,
}

# A catalog and roles, so that what is tested here holds whatever the policy's own are.
catalog := {"entity_types": {
	"models": {"operations": {"read": {}, "write": {}, "execute": {}}},
	"datasets": {"operations": {"read": {}, "write": {}}},
	"domains": {"operations": {"read": {}, "write": {}}},
}}

roles := {
	"viewer": {"models": {"read": true}, "datasets": {"read": true}, "domains": {"read": true}},
	"member": {"models": {"read": true, "execute": true}, "datasets": {"read": true, "write": true}, "domains": {"read": true}},
	"admin": {
		"models": {"read": true, "execute": true},
		"datasets": {"read": true, "write": true},
		"domains": {"read": true, "write": true},
	},
}

# decide judges input_ with these rules of one's own.
decide(input_, custom) := decision if {
	decision := authz.decision with input as input_
		with data.patrol.custom as custom
		with data.patrol.catalog as catalog
		with data.patrol.roles as roles
}

limits(changes) := put("domain/limits", object.union({"max_lifetime": 0, "wildcards": true, "approval": false}, changes))

put(path, value) := {"op": "add", "path": path, "value": value}

gone(path) := {"op": "remove", "path": path}

# from has a client at an address, with a token for some addresses.
from(ip, ranges) := [put("client", {"ip": ip}), put("token/allowed_ips", ranges)]

codes(decision) := [reason.code | some reason in decision.reasons]

platform_admin := [put("user/admin", true), gone("membership")]

# What is allowed, and by which scope.
test_allow[note] if {
	some note, case in {
		"a member, by a scope for any model": {"patches": []},
		"by a scope for this model, before one for any": {"patches": [put("token/scopes/acme/models/read/llama3", "scope-2")], "scope": "scope-2"},
		"by a scope for any domain": {"patches": [put("token/scopes", {"*": {"models": {"read": {"*": "scope-3"}}}})], "scope": "scope-3"},
		"by a scope for this model in any domain": {"patches": [put("token/scopes", {"*": {"models": {"read": {"llama3": "scope-4", "*": "x"}}}})], "scope": "scope-4"},
		"this domain before any domain": {"patches": [put("token/scopes/*", {"models": {"read": {"llama3": "x"}}})]},
		"the collection, by a scope for the collection": {"patches": [put("request/entity", "*")]},
		"in the last second": {"patches": [put("now", 1792591999)]},
		"a domain, which is its own entity": {
			"patches": [
				put("request/entity_type", "domains"),
				put("request/entity", "acme"),
				put("token/scopes/acme/domains", {"read": {"acme": "scope-5"}}),
			],
			"scope": "scope-5",
		},
		"the admin of a disabled domain": {"patches": [put("domain/status", "disabled"), put("membership/role", "admin")]},
		"a platform admin who is no member": {"patches": platform_admin},
		"a platform admin, whatever their role": {
			"patches": [
				put("user/admin", true),
				put("request/operation", "write"),
				put("token/scopes/acme/models/write", {"llama3": "scope-6"}),
			],
			"scope": "scope-6",
		},
		"a platform admin in a disabled domain": {"patches": array.concat(platform_admin, [put("domain/status", "disabled")])},
		"a platform admin in a frozen domain": {"patches": array.concat(platform_admin, [put("domain/status", "frozen")])},
		"no limits": {"patches": [put("domain/limits", null)]},
		"limits that demand nothing": {"patches": [limits({})]},
		"young enough for the domain, in the last second": {"patches": [limits({"max_lifetime": 500001})]},
		"by a scope that names all, where wildcards do not count": {
			"patches": [limits({"wildcards": false}), put("token/scopes/acme/models/read/llama3", "scope-2")],
			"scope": "scope-2",
		},
		"a domain, where wildcards do not count": {
			"patches": [
				limits({"wildcards": false}),
				put("request/entity_type", "domains"),
				put("request/entity", "acme"),
				put("token/scopes/acme/domains", {"read": {"acme": "scope-5"}}),
			],
			"scope": "scope-5",
		},
		"approved": {"patches": [limits({"approval": true}), put("token/approvals", {"acme": 1790000000})]},
		"withdrawn elsewhere": {"patches": [put("token/withdrawn", {"beta": 1790000000})]},
		"withdrawn nowhere": {"patches": [put("token/withdrawn", {})]},
		"from an allowed address": {"patches": from("203.0.113.7", ["198.51.100.1/32", "203.0.113.0/24"])},
		"from the allowed address": {"patches": from("203.0.113.7", ["203.0.113.7/32"])},
		"from an allowed address of IPv6": {"patches": from("2001:db8::1", ["203.0.113.0/24", "2001:db8::/32"])},
		"from any address of IPv4": {"patches": from("203.0.113.7", ["0.0.0.0/0"])},
		"from wherever, where that does not matter": {"patches": [put("client", {"ip": "203.0.113.7"})]},
		"all limits kept": {
			"patches": [
				limits({"max_lifetime": 1000000, "wildcards": false, "approval": true}),
				put("token/scopes/acme/models/read/llama3", "scope-2"),
				put("token/approvals", {"acme": 1790000000, "beta": 1790000000}),
			],
			"scope": "scope-2",
		},
	}
	input_ := json.patch(allowed, case.patches)
	reasons := authz.reasons with input as input_
		with data.patrol.custom as {}
		with data.patrol.catalog as catalog
		with data.patrol.roles as roles
	reasons == set()
	decision := decide(input_, {})
	decision == {"allow": true, "reasons": [], "scope": object.get(case, "scope", "scope-1")}
}

# What is denied, and with which reasons.
test_deny[note] if {
	some note, case in {
		"revoked": {"patches": [put("token/revoked", true)], "codes": ["token_revoked"]},
		"expired in this second": {"patches": [put("now", 1792592000)], "codes": ["token_expired"]},
		"the owner is disabled": {"patches": [put("user/disabled", true)], "codes": ["user_disabled"]},
		"the owner is gone": {"patches": [gone("user")], "codes": ["user_disabled"]},
		"no token": {"patches": [gone("token")], "codes": ["token_expired", "token_revoked"]},
		"all that says who asks": {
			"patches": [put("token/revoked", true), put("now", 1792592000), put("user/disabled", true)],
			"codes": ["token_expired", "token_revoked", "user_disabled"],
		},
		"who asks hides what is asked": {
			"patches": [put("token/revoked", true), put("request/operation", "fly"), gone("domain"), gone("membership")],
			"codes": ["token_revoked"],
		},
		"nothing known": {"patches": [put("", {})], "codes": ["token_expired", "token_revoked", "user_disabled"]},
		"no such operation": {"patches": [put("request/operation", "fly")], "codes": ["unknown_operation"]},
		"no such operation on this type": {"patches": [put("request/entity_type", "datasets"), put("request/operation", "execute")], "codes": ["unknown_operation"]},
		"no such type": {"patches": [put("request/entity_type", "planes")], "codes": ["unknown_operation"]},
		"no such operation, for a platform admin": {"patches": array.concat(platform_admin, [put("request/operation", "fly")]), "codes": ["unknown_operation"]},
		"no such operation stands alone": {
			"patches": [put("request/operation", "fly"), gone("domain"), gone("membership"), put("token/scopes", {})],
			"codes": ["unknown_operation"],
		},
		"no request": {"patches": [gone("request")], "codes": ["unknown_operation"]},
		"no such domain": {"patches": [gone("domain")], "codes": ["domain_unknown"]},
		"another domain": {"patches": [put("domain/id", "other")], "codes": ["domain_unknown"]},
		"a status that does not exist": {"patches": [put("domain/status", "open")], "codes": ["domain_unknown"]},
		"no such domain hides membership, role and scope": {
			"patches": [gone("domain"), gone("membership"), put("token/scopes", {})],
			"codes": ["domain_unknown"],
		},
		"disabled": {"patches": [put("domain/status", "disabled")], "codes": ["domain_disabled"]},
		"frozen": {"patches": [put("domain/status", "frozen")], "codes": ["domain_frozen"]},
		"frozen, for its admin": {"patches": [put("domain/status", "frozen"), put("membership/role", "admin")], "codes": ["domain_frozen"]},
		"no member": {"patches": [gone("membership")], "codes": ["not_a_member"]},
		"no member hides what the role forbids": {
			"patches": [gone("membership"), put("request/operation", "write"), put("token/scopes/acme/models/write", {"*": "x"})],
			"codes": ["not_a_member"],
		},
		"the role": {
			"patches": [put("request/operation", "execute"), put("membership/role", "viewer"), put("token/scopes/acme/models/execute", {"*": "x"})],
			"codes": ["role_forbids"],
		},
		"nobody's role writes models": {
			"patches": [put("request/operation", "write"), put("membership/role", "admin"), put("token/scopes/acme/models/write", {"*": "x"})],
			"codes": ["role_forbids"],
		},
		"a role that does not exist": {"patches": [put("membership/role", "pilot")], "codes": ["role_forbids"]},
		"a scope without an id": {"patches": [put("token/scopes/acme/models/read/*", "")], "codes": ["out_of_scope"]},
		"no scopes": {"patches": [put("token/scopes", {})], "codes": ["out_of_scope"]},
		"a scope for another model": {"patches": [put("token/scopes/acme/models/read", {"phi": "x"})], "codes": ["out_of_scope"]},
		"a scope for another operation": {"patches": [put("token/scopes/acme/models", {"execute": {"*": "x"}})], "codes": ["out_of_scope"]},
		"a scope for another type": {"patches": [put("token/scopes/acme", {"datasets": {"read": {"*": "x"}}})], "codes": ["out_of_scope"]},
		"a scope for another domain": {"patches": [put("token/scopes", {"other": {"models": {"read": {"*": "x"}}}})], "codes": ["out_of_scope"]},
		"a scope for one model does not cover the collection": {
			"patches": [put("request/entity", "*"), put("token/scopes/acme/models/read", {"llama3": "x"})],
			"codes": ["out_of_scope"],
		},
		"stars for type and operation mean nothing": {"patches": [put("token/scopes", {"*": {"*": {"*": {"*": "x"}}}})], "codes": ["out_of_scope"]},
		"scopes bind platform admins": {"patches": array.concat(platform_admin, [put("token/scopes", {})]), "codes": ["out_of_scope"]},
		"a domain that is not its own entity": {
			"patches": [
				put("request/entity_type", "domains"),
				put("request/entity", "other"),
				put("token/scopes/acme/domains", {"read": {"*": "x", "other": "y"}}),
			],
			"codes": ["out_of_scope"],
		},
		"the collection of domains": {
			"patches": [
				put("request/entity_type", "domains"),
				put("request/entity", "*"),
				put("token/scopes/acme/domains", {"read": {"*": "x"}}),
			],
			"codes": ["out_of_scope"],
		},
		"disabled, the role, the scope": {
			"patches": [put("domain/status", "disabled"), put("request/operation", "write")],
			"codes": ["domain_disabled", "out_of_scope", "role_forbids"],
		},
		"too old for the domain, from this second on": {"patches": [limits({"max_lifetime": 500000})], "codes": ["lifetime_exceeded"]},
		"wildcards do not count": {"patches": [limits({"wildcards": false})], "codes": ["wildcard_forbidden"]},
		"a wildcard for the domain does not count": {
			"patches": [limits({"wildcards": false}), put("token/scopes", {"*": {"models": {"read": {"llama3": "x"}}}})],
			"codes": ["wildcard_forbidden"],
		},
		"the collection has no name": {"patches": [limits({"wildcards": false}), put("request/entity", "*")], "codes": ["wildcard_forbidden"]},
		"a domain named * has no name": {
			"patches": [
				limits({"wildcards": false}),
				put("request/domain", "*"),
				put("domain/id", "*"),
				put("token/scopes", {"*": {"models": {"read": {"llama3": "x"}}}}),
			],
			"codes": ["wildcard_forbidden"],
		},
		"not approved": {"patches": [limits({"approval": true})], "codes": ["approval_required"]},
		"approved by another domain": {
			"patches": [limits({"approval": true}), put("token/approvals", {"other": 1790000000, "*": 1790000000})],
			"codes": ["approval_required"],
		},
		"an approval that is none": {"patches": [limits({"approval": true}), put("token/approvals", {"acme": null})], "codes": ["approval_required"]},
		"limits bind platform admins": {"patches": array.concat(platform_admin, [limits({"approval": true})]), "codes": ["approval_required"]},
		"withdrawn": {"patches": [put("token/withdrawn", {"acme": 1790000000})], "codes": ["withdrawn"]},
		"withdrawn, whatever stands there": {"patches": [put("token/withdrawn", {"acme": false})], "codes": ["withdrawn"]},
		"withdrawals that are none": {"patches": [put("token/withdrawn", false)], "codes": ["withdrawn"]},
		"withdrawals that are a text": {"patches": [put("token/withdrawn", "beta")], "codes": ["withdrawn"]},
		"withdrawn from a platform admin": {"patches": array.concat(platform_admin, [put("token/withdrawn", {"acme": 1})]), "codes": ["withdrawn"]},
		"withdrawn, and no member": {"patches": [gone("membership"), put("token/withdrawn", {"acme": 1})], "codes": ["not_a_member", "withdrawn"]},
		"from another address": {"patches": from("203.0.114.7", ["203.0.113.0/24"]), "codes": ["ip_forbidden"]},
		"from an unknown address": {"patches": [put("token/allowed_ips", ["0.0.0.0/0", "::/0"])], "codes": ["ip_forbidden"]},
		"from who says the program alone": {
			"patches": [put("token/allowed_ips", ["0.0.0.0/0", "::/0"]), put("client", {"user_agent": "x"})],
			"codes": ["ip_forbidden"],
		},
		"from IPv6, where IPv4 is allowed": {"patches": from("2001:db8::1", ["0.0.0.0/0"]), "codes": ["ip_forbidden"]},
		"from IPv4, where IPv6 is allowed": {"patches": from("203.0.113.7", ["::/0"]), "codes": ["ip_forbidden"]},
		"from a range": {"patches": from("203.0.113.0/25", ["203.0.113.0/24"]), "codes": ["ip_forbidden"]},
		"from what is no address": {"patches": from("localhost", ["0.0.0.0/0", "::/0"]), "codes": ["ip_forbidden"]},
		"from an address with a zone": {"patches": from("fe80::1%eth0", ["::/0"]), "codes": ["ip_forbidden"]},
		"from an address of another type": {"patches": from(["203.0.113.7"], ["203.0.113.0/24"]), "codes": ["ip_forbidden"]},
		"allowed from nowhere": {"patches": from("203.0.113.7", []), "codes": ["ip_forbidden"]},
		"allowed from what is no range": {"patches": from("203.0.113.7", ["203.0.113.7", "", "office", 5, null]), "codes": ["ip_forbidden"]},
		"allowed from a text": {"patches": from("203.0.113.7", "203.0.113.0/24"), "codes": ["ip_forbidden"]},
		"allowed from null": {"patches": from("203.0.113.7", null), "codes": ["ip_forbidden"]},
		"allowed from false": {"patches": from("203.0.113.7", false), "codes": ["ip_forbidden"]},
		"a platform admin from another address": {
			"patches": array.concat(platform_admin, from("203.0.114.7", ["203.0.113.0/24"])),
			"codes": ["ip_forbidden"],
		},
		"another address, and no scope": {
			"patches": array.concat([put("token/scopes", {})], from("203.0.114.7", ["203.0.113.0/24"])),
			"codes": ["ip_forbidden", "out_of_scope"],
		},
		"revoked hides the address": {
			"patches": array.concat([put("token/revoked", true)], from("203.0.114.7", ["203.0.113.0/24"])),
			"codes": ["token_revoked"],
		},
		"all limits broken": {
			"patches": [limits({"max_lifetime": 1, "wildcards": false, "approval": true})],
			"codes": ["approval_required", "lifetime_exceeded", "wildcard_forbidden"],
		},
		"disabled, and a limit": {"patches": [put("domain/status", "disabled"), limits({"approval": true})], "codes": ["approval_required", "domain_disabled"]},
		"no member hears nothing of limits": {
			"patches": [gone("membership"), limits({"max_lifetime": 1, "wildcards": false, "approval": true})],
			"codes": ["not_a_member"],
		},
		"out of scope hides limits": {
			"patches": [put("token/scopes", {}), limits({"max_lifetime": 1, "wildcards": false, "approval": true})],
			"codes": ["out_of_scope"],
		},
		"frozen, no member, the scope": {
			"patches": [put("domain/status", "frozen"), gone("membership"), put("token/scopes", {})],
			"codes": ["domain_frozen", "not_a_member", "out_of_scope"],
		},
	}
	decision := decide(json.patch(allowed, case.patches), {})
	decision.allow == false
	object.keys(decision) == {"allow", "reasons"}
	codes(decision) == case.codes
	every reason in decision.reasons { object.keys(reason) == {"code", "message"} }
}

# Every fact, wrongly typed or absent, denies, and with a reason.
test_deny_malformed[note] if {
	some path, code in {
		"request/domain": "domain_unknown",
		"request/entity_type": "unknown_operation",
		"request/entity": "out_of_scope",
		"request/operation": "unknown_operation",
		"token/revoked": "token_revoked",
		"token/expires_at": "token_expired",
		"token/scopes": "out_of_scope",
		"token/scopes/acme": "out_of_scope",
		"token/scopes/acme/models": "out_of_scope",
		"token/scopes/acme/models/read": "out_of_scope",
		"token/scopes/acme/models/read/*": "out_of_scope",
		"user/disabled": "user_disabled",
		"domain/id": "domain_unknown",
		"domain/status": "domain_unknown",
		"membership/role": "not_a_member",
	}
	some value in [null, 0, -1, [], {}, ["acme"], "absent"]
	patch := {true: gone(path), false: put(path, value)}[value == "absent"]
	note := sprintf("%s: %v", [path, value])
	decision := decide(json.patch(allowed, [patch]), {})
	decision.allow == false
	code in codes(decision)
}

# Limits that are none, and facts that they are held against, wrongly typed: denied,
# too.
test_limits_malformed[note] if {
	some path, expected in {
		"domain/limits": ["approval_required", "lifetime_exceeded", "wildcard_forbidden"],
		"domain/limits/max_lifetime": ["lifetime_exceeded"],
		"domain/limits/wildcards": ["wildcard_forbidden"],
		"domain/limits/approval": ["approval_required"],
		"token/created_at": ["lifetime_exceeded"],
	}
	some value in ["1790000000", [], {}, ["acme"]]
	note := sprintf("%s: %v", [path, value])
	decision := decide(json.patch(allowed, [limits({"max_lifetime": 1000000}), put(path, value)]), {})
	codes(decision) == expected
}

# `now` and the times of a token are compared as numbers or not at all: Rego holds
# null < 5 and 100 < "20".
test_times_are_numbers if {
	every now in [null, false, "0", [], {}] {
		not authz.token_unexpired with input as {"now": now, "token": {"expires_at": 5}}
	}
	every expires_at in [null, true, "9", [5], {}] {
		not authz.token_unexpired with input as {"now": 1, "token": {"expires_at": expires_at}}
	}
}

# A domain that is null is not the null domain.
test_nothing_equals_nothing if {
	decision := decide(
		json.patch(allowed, array.concat(platform_admin, [
			put("request/domain", null),
			put("domain/id", null),
			put("token/scopes", {"*": {"models": {"read": {"*": "x"}}}}),
		])),
		{},
	)
	codes(decision) == ["domain_unknown"]
}

# An enabled domain lets everybody in.
test_enabled if authz.domain_admits_user with input as allowed

# Rules of one's own can deny what else is allowed, and not allow what else is
# denied.
test_own_rules if {
	weekend := {"code": "weekend", "message": "It is the weekend."}
	night := {"code": "night", "message": "It is night."}
	one := decide(allowed, {"deny": {weekend}})
	one == {"allow": false, "reasons": [weekend]}
	all := decide(allowed, {"deny": {weekend, night}})
	codes(all) == ["night", "weekend"]
	late := decide(json.patch(allowed, [put("token/scopes", {})]), {"deny": {weekend}})
	codes(late) == ["out_of_scope", "weekend"]
	revoked := decide(json.patch(allowed, [put("token/revoked", true)]), {"deny": {weekend}})
	codes(revoked) == ["token_revoked"]
	old := decide(allowed, {"reason": weekend, "deny": {night}})
	codes(old) == ["night", "weekend"]
}

# What labels a decision has, if any, are told beside it.
test_labels if {
	labels := {"alert": "break-glass"}
	yes := decide(allowed, {"labels": labels})
	yes == {"allow": true, "reasons": [], "scope": "scope-1", "labels": labels}
	no := decide(json.patch(allowed, [put("token/scopes", {})]), {"labels": labels})
	no.labels == labels
}

exception(code) := {"code": code, "because": "INC-123", "until": 1790500001}

# An exception lifts its reason, and with it nothing that the reason hid.
test_exceptions[note] if {
	some note, case in {
		"a disabled domain": {"patches": [put("domain/status", "disabled")], "waive": ["domain_disabled"], "codes": []},
		"a frozen domain": {"patches": [put("domain/status", "frozen")], "waive": ["domain_frozen"], "codes": []},
		"disabled is not frozen": {"patches": [put("domain/status", "disabled")], "waive": ["domain_frozen"], "codes": ["domain_disabled"]},
		"no member, whose role is not there either": {"patches": [gone("membership")], "waive": ["not_a_member"], "codes": ["role_forbids"]},
		"no member, of whom limits are not kept": {
			"patches": [gone("membership"), limits({"approval": true})],
			"waive": ["not_a_member"],
			"codes": ["approval_required", "role_forbids"],
		},
		"neither member nor role": {"patches": [gone("membership")], "waive": ["not_a_member", "role_forbids"], "codes": []},
		"the role": {
			"patches": [put("request/operation", "write"), put("token/scopes/acme/models/write", {"*": "scope-1"})],
			"waive": ["role_forbids"],
			"codes": [],
		},
		"the lifetime": {"patches": [limits({"max_lifetime": 1})], "waive": ["lifetime_exceeded"], "codes": []},
		"wildcards": {"patches": [limits({"wildcards": false})], "waive": ["wildcard_forbidden"], "codes": []},
		"the approval": {"patches": [limits({"approval": true})], "waive": ["approval_required"], "codes": []},
		"one of two limits": {"patches": [limits({"approval": true, "max_lifetime": 1})], "waive": ["approval_required"], "codes": ["lifetime_exceeded"]},
		"the scope stays": {"patches": [put("token/scopes", {})], "waive": ["out_of_scope", "role_forbids"], "codes": ["out_of_scope"]},
		"a 401 stays": {"patches": [put("token/revoked", true)], "waive": ["token_revoked"], "codes": ["token_revoked"]},
		"a withdrawal stays": {"patches": [put("token/withdrawn", {"acme": 1})], "waive": ["withdrawn"], "codes": ["withdrawn"]},
		"an address stays": {"patches": from("203.0.114.7", ["203.0.113.0/24"]), "waive": ["ip_forbidden"], "codes": ["ip_forbidden"]},
		"an unknown domain stays": {"patches": [gone("domain")], "waive": ["domain_unknown"], "codes": ["domain_unknown"]},
	}
	waive := {exception(code) | some code in case.waive}
	decision := decide(json.patch(allowed, case.patches), {"waive": waive})
	codes(decision) == case.codes
}

# An exception ends, at most 90 days from now.
test_exceptions_end[note] if {
	some note, case in {
		"in the last second": {"until": 1790500001, "lifted": true},
		"in 90 days": {"until": 1790500000 + 7776000, "lifted": true},
		"now": {"until": 1790500000, "lifted": false},
		"in more than 90 days": {"until": 1790500001 + 7776000, "lifted": false},
		"never": {"until": "never", "lifted": false},
		"null": {"until": null, "lifted": false},
	}
	waive := {{"code": "domain_frozen", "because": "INC-123", "until": case.until}}
	decision := decide(json.patch(allowed, [put("domain/status", "frozen")]), {"waive": waive})
	decision.allow == case.lifted
}
