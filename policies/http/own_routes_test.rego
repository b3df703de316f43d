package patrol.own_routes_test

import data.patrol.http

# asked is the input for "<METHOD> <path>".
asked(line) := {"http": {
	"method": parts[0],
	"path": parts[1],
	"segments": [segment | some segment in split(parts[1], "/"); segment != ""],
	"query": {},
	"headers": {},
}} if {
	parts := split(line, " ")
}

# saying is the input with a body.
saying(body, line) := json.patch(asked(line), [{"op": "add", "path": "http/body", "value": body}])

json_body(fields) := {"body": {"format": "json", "fields": fields, "absent": sort(data.patrol.choosers.body)}}

# Routes of one's own, of every form there is.
own := {
	"GET /files/*": {"entity_type": "datasets", "operation": "read", "entity": {"path": 1}},
	"GET /files/*/rows/*": {"entity_type": "datasets", "operation": "read", "entity": {"path": 2}},
	"GET /files/*/meta": {"entity_type": "datasets", "operation": "write", "entity": {"path": 1}},
	"GET /files/special/*": {"entity_type": "datasets", "operation": "read", "entity": "special"},
	"GET /files/*/tree/**": {"entity_type": "datasets", "operation": "read", "entity": {"path": 1}},
	"GET /files/**": {"entity_type": "datasets", "operation": "read", "entity": {"path": 1}},
	"GET /search": {"entity_type": "datasets", "operation": "read", "entity": {"query": "set"}},
	"GET /live": {"entity_type": "models", "operation": "execute", "entity": {"query": "model"}, "websocket": true},
	"POST /chat/*": {"entity_type": "models", "operation": "execute", "entity": {"json": ["model"]}, "websocket": true},
	"PUT /upload": {"entity_type": "datasets", "operation": "write", "entity": {"multipart": ["set", "name"]}, "absent": ["secret"]},
	"POST /compare": {"entity_type": "models", "operation": "execute", "entity": {"each": ["left", "right"]}},
	"GET /": {"entity_type": "domains", "operation": "read"},
}

test_own_routes[note] if {
	some note, entity in {
		"GET /files/a": "a",
		"GET /files/a/rows/b": "b",
		"GET /files/a/meta": "a",
		"GET /files/special/meta": "special",
		"GET /files/special/rows/1": "1",
		"GET /files/a/tree/b/c": "a",
		"GET /files/a/b/c/d": "a/b/c/d",
		"GET /files/a/tree": "a/tree",
		"GET /search": "*",
		"GET /": "*",
		"GET /proxy/acme": "*",
		"POST /chat/x": "*",
		"PUT /upload": "*",
	}
	http.request.entity == entity with input as asked(note) with data.patrol.routes as own
}

test_own_routes_by_body[note] if {
	some note, hint in {
		"POST /chat/x": json_body(["model"]),
		"PUT /upload": {"body": {"format": "multipart", "fields": ["name", "set"], "absent": ["secret"]}},
	}
	http.hints.body == hint.body with input as asked(note) with data.patrol.routes as own
	http.request.entity == "s1" with input as saying({hint.body.fields[0]: "s1"}, note) with data.patrol.routes as own
}

test_query[note] if {
	some note, case in {
		"named": {"query": {"set": ["s1"]}, "want": {"s1"}},
		"another parameter": {"query": {"sets": ["s1"]}, "want": {"*"}},
		"twice": {"query": {"set": ["s1", "s1"]}, "want": set()},
		"two": {"query": {"set": ["s1", "s2"]}, "want": set()},
		"none": {"query": {"set": []}, "want": set()},
		"named, and in another case": {"query": {"set": ["s1"], "SET": ["s2"]}, "want": set()},
		"named, and with an index": {"query": {"set": ["s1"], "set[0]": ["s2"]}, "want": set()},
		"named, and with signs": {"query": {"set": ["s1"], "s_e-t": ["s2"]}, "want": set()},
	}
	input_ := json.patch(asked("GET /search"), [{"op": "add", "path": "http/query", "value": case.query}])
	entities := {entity | entity := http.request.entity} with input as input_ with data.patrol.routes as own
	entities == case.want
}

test_websocket if {
	http.hints == {"websocket": true} with input as asked("GET /live") with data.patrol.routes as own
	http.hints == object.union(json_body(["model"]), {"websocket": true}) with input as asked("POST /chat/x") with data.patrol.routes as own
}
