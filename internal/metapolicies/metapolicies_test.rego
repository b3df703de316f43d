package metapolicies_test

import data.metapolicies

here := {"file": "x.rego", "row": 7, "col": 1}

path(text) := [{"type": "string", "value": part} | some part in split(text, ".")]

about(text, annotations) := {"path": path(text), "location": here, "annotations": object.union({"scope": "rule"}, annotations)}

rule(text) := {"path": text, "location": here}

reason(code) := {"title": "A reason", "custom": {"code": code, "message": "Because."}}

test_findings[note] if {
	some note, case in {
		"a rule with a title": {"annotations": [about("data.patrol.x.p", {"title": "P"})], "rules": [rule("data.patrol.x.p")], "want": set()},
		"a rule without": {"annotations": [], "rules": [rule("data.patrol.x.p")], "want": {"metadata_missing"}},
		"a title that is blank": {"annotations": [about("data.patrol.x.p", {"title": " "})], "rules": [rule("data.patrol.x.p")], "want": {"metadata_missing"}},
		"a title of the package only": {
			"annotations": [about("data.patrol.x.p", {"title": "P", "scope": "package"})],
			"rules": [rule("data.patrol.x.p")],
			"want": {"metadata_missing"},
		},
		"a reason": {"annotations": [about("data.patrol.x.p", reason("closed"))], "rules": [rule("data.patrol.x.p")], "want": set()},
		"a code in capitals": {"annotations": [about("data.patrol.x.p", reason("Closed"))], "rules": [], "want": {"code_malformed"}},
		"a code that is a number": {"annotations": [about("data.patrol.x.p", reason(7))], "rules": [], "want": {"code_malformed"}},
		"a code of Patrol's": {"annotations": [about("data.patrol.x.p", reason("token_unknown"))], "rules": [], "want": {"code_reserved"}},
		"one code twice": {
			"annotations": [about("data.patrol.x.p", reason("closed")), about("data.patrol.x.q", reason("closed"))],
			"rules": [],
			"want": {"code_duplicate"},
		},
		"no message": {"annotations": [about("data.patrol.x.p", {"title": "P", "custom": {"code": "closed"}})], "rules": [], "want": {"message_missing"}},
		"a message that is blank": {
			"annotations": [about("data.patrol.x.p", {"title": "P", "custom": {"code": "closed", "message": " "}})],
			"rules": [],
			"want": {"message_missing"},
		},
		"an entrypoint": {
			"annotations": [about("data.patrol.authz.decision", {"title": "D", "entrypoint": true})],
			"rules": [rule("data.patrol.authz.decision")],
			"want": set(),
		},
		"an entrypoint that is not declared": {
			"annotations": [about("data.patrol.http.request", {"title": "R"})],
			"rules": [rule("data.patrol.http.request")],
			"want": {"entrypoint_undeclared"},
		},
		"a test among the rules": {"annotations": [about("data.patrol.x.test_p", {"title": "P"})], "rules": [rule("data.patrol.x.test_p")], "want": {"test_misplaced"}},
	}
	found := metapolicies.findings with input as {"annotations": case.annotations, "rules": case.rules}
	{f.code | some f in found} == case.want
}

test_place if {
	found := metapolicies.findings with input as {"annotations": [], "rules": [rule("data.patrol.x.p")]}
	found == {{"code": "metadata_missing", "message": "data.patrol.x.p has no title in its METADATA", "file": "x.rego", "row": 7, "col": 1}}
}
