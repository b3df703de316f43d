package patrol.http_test

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

# naming is the input with a body that names a model, "" for one that names none.
naming("", line) := json.patch(asked(line), [{"op": "add", "path": "http/body", "value": {}}])

naming(model, line) := json.patch(asked(line), [{"op": "add", "path": "http/body", "value": {"model": model}}]) if model != ""

models_on(operation, entity) := {"domain": "acme", "entity_type": "models", "entity": entity, "operation": operation}

json_body(fields) := {"body": {"format": "json", "fields": fields}}

# Routes that name no entity.
collections := {
	"GET /v1/models": "read",
	"GET /api/tags": "read",
	"GET /api/ps": "read",
	"GET /api/version": "read",
	"POST /api/copy": "write",
}

# Routes whose body names the model: the operation, and how to find the name.
bodies := {
	"POST /v1/chat/completions": ["execute", json_body(["model"])],
	"POST /v1/completions": ["execute", json_body(["model"])],
	"POST /v1/embeddings": ["execute", json_body(["model"])],
	"POST /v1/responses": ["execute", json_body(["model"])],
	"POST /v1/audio/speech": ["execute", json_body(["model"])],
	"POST /v1/audio/transcriptions": ["execute", {"body": {"format": "multipart", "fields": ["model"]}}],
	"POST /v1/audio/translations": ["execute", {"body": {"format": "multipart", "fields": ["model"]}}],
	"POST /tokenize": ["execute", json_body(["model"])],
	"POST /detokenize": ["execute", json_body(["model"])],
	"POST /pooling": ["execute", json_body(["model"])],
	"POST /classify": ["execute", json_body(["model"])],
	"POST /score": ["execute", json_body(["model"])],
	"POST /v1/score": ["execute", json_body(["model"])],
	"POST /rerank": ["execute", json_body(["model"])],
	"POST /v1/rerank": ["execute", json_body(["model"])],
	"POST /v2/rerank": ["execute", json_body(["model"])],
	"POST /api/chat": ["execute", json_body(["model"])],
	"POST /api/generate": ["execute", json_body(["model"])],
	"POST /api/embed": ["execute", json_body(["model"])],
	"POST /api/embeddings": ["execute", json_body(["model"])],
	"POST /api/show": ["read", json_body(["model", "name"])],
	"POST /api/pull": ["write", json_body(["model", "name"])],
	"POST /api/push": ["write", json_body(["model", "name"])],
	"POST /api/create": ["write", json_body(["model", "name"])],
	"DELETE /api/delete": ["write", json_body(["model", "name"])],
}

# Routes whose path names the model.
paths := {
	"GET /v1/models/**": "read",
	"DELETE /v1/models/**": "write",
}

proxied(line) := replace(line, " /", " /proxy/acme/")

test_every_route_is_tested if {
	object.keys(data.patrol.routes) == (object.keys(collections) | object.keys(bodies)) | object.keys(paths)
}

test_collections[note] if {
	some note, operation in collections
	input_ := asked(proxied(note))
	http.request == models_on(operation, "*") with input as input_
	http.hints == {} with input as input_
}

test_bodies[note] if {
	some note, [operation, hints] in bodies
	http.request == models_on(operation, "llama3:8b") with input as naming("llama3:8b", proxied(note))
	http.request == models_on(operation, "*") with input as naming("", proxied(note))
	http.request == models_on(operation, "*") with input as asked(proxied(note))
	http.hints == hints with input as asked(proxied(note))
}

test_paths[note] if {
	some note, operation in paths
	some model in ["llama3", "meta-llama/Llama-3", "a/b/c/d/e/f/g/h/i/j"]
	input_ := asked(replace(proxied(note), "**", model))
	http.request == models_on(operation, model) with input as input_
	http.hints == {} with input as input_
}

# Without the prefix the domain is for the server to know.
test_without_prefix[note] if {
	some note, entity in {"GET /v1/models": "*", "HEAD /v1/models": "*", "GET /v1/models/x": "x"}
	http.request == object.union(models_on("read", entity), {"domain": ""}) with input as asked(note)
}

test_unmapped[note] if {
	some note in [
		"GET /",
		"GET /proxy",
		"GET /proxy/acme",
		"GET /proxy/proxy",
		"GET /nothing",
		"GET /v1",
		"GET /v1/chat/completions",
		"PUT /v1/models",
		"POST /v1/models",
		"OPTIONS /v1/models",
		"get /v1/models",
		"HEAD /v1/chat/completions",
		"GET /V1/models",
		"GET /v1/Models",
		"GET /v1/models/",
		"GET /v1/models/llama3/",
		"POST /v1/chat/completions/",
		"POST /v1/chat/completions/x",
		"POST /x/v1/chat/completions",
		"GET /v1/models/*",
		"GET /v1/models/**",
		"DELETE /v1/models/a*",
		"GET /api/show",
		"POST /api/tags",
		"POST /api/delete",
		"GET /api/tags/x",
		"PROPFIND /api/tags",
		"HEAD /proxy/acme/api/show",
		"GET /proxy/acme/proxy/other/v1/models",
		"GET /Proxy/acme/v1/models",
	]
	not http.request with input as asked(note)
	not http.hints with input as asked(note)
}

# A path that is not what its segments say is not judged by either.
test_path_and_segments_disagree[note] if {
	some note, case in {
		"a slash inside a segment": ["/v1/models", ["v1/models"]],
		"a slash inside a model": ["/v1/models/a/b", ["v1", "models", "a/b", ""]],
		"two slashes": ["/v1//models", ["v1", "models"]],
		"another path": ["/v1/models", ["api", "tags"]],
	}
	input_ := {"http": {"method": "GET", "path": case[0], "segments": case[1], "query": {}, "headers": {}}}
	not http.request with input as input_
}

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
	}
	http.request.entity == entity with input as asked(note) with data.patrol.routes as own
}

test_query[note] if {
	some note, case in {
		"named": {"query": {"set": ["s1"]}, "want": {"s1"}},
		"another parameter": {"query": {"sets": ["s1"]}, "want": {"*"}},
		"twice": {"query": {"set": ["s1", "s1"]}, "want": set()},
		"two": {"query": {"set": ["s1", "s2"]}, "want": set()},
		"none": {"query": {"set": []}, "want": set()},
	}
	input_ := json.patch(asked("GET /search"), [{"op": "add", "path": "http/query", "value": case.query}])
	entities := {entity | entity := http.request.entity} with input as input_ with data.patrol.routes as own
	entities == case.want
}

test_websocket if {
	http.hints == {"websocket": true} with input as asked("GET /live") with data.patrol.routes as own
	http.hints == object.union(json_body(["model"]), {"websocket": true}) with input as asked("POST /chat/x") with data.patrol.routes as own
}
