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

# saying is the input with a body.
saying(body, line) := json.patch(asked(line), [{"op": "add", "path": "http/body", "value": body}])

# naming is the input with a body that names a model, "" for one that names none.
naming("", line) := saying({}, line)

naming(model, line) := saying({"model": model}, line) if model != ""

models_on(operation, entity) := {"domain": "acme", "entity_type": "models", "entity": entity, "operation": operation}

json_body(fields) := {"body": {"format": "json", "fields": fields, "absent": sort(data.patrol.choosers.body)}}

# Routes that name no entity.
collections := {
	"GET /v1/models": "read",
	"GET /api/tags": "read",
	"GET /api/ps": "read",
	"GET /api/version": "read",
	"GET /health": "read",
	"GET /ping": "read",
	"GET /version": "read",
	"GET /tokenizer_info": "read",
	"GET /v1/realtime": "execute",
	"POST /v1/audio/*": "execute",
	"GET /api/blobs/*": "write",
	"POST /api/blobs/*": "write",
}

# Routes whose JSON body names the model under one key.
json_bodies := {
	"POST /v1/responses/input_tokens": "execute",
	"POST /v1/moderations": "execute",
	"POST /v1/images/generations": "execute",
	"POST /v1/audio/speech": "execute",
	"POST /v1/messages/count_tokens": "execute",
	"POST /v1/chat/completions/batch": "execute",
	"POST /v1/chat/completions/render": "execute",
	"POST /v1/completions/render": "execute",
	"POST /tokenize": "execute",
	"POST /detokenize": "execute",
	"POST /pooling": "execute",
	"POST /classify": "execute",
	"POST /score": "execute",
	"POST /v1/score": "execute",
	"POST /rerank": "execute",
	"POST /v1/rerank": "execute",
	"POST /v2/rerank": "execute",
	"POST /v2/embed": "execute",
	"POST /generative_scoring": "execute",
	"POST /invocations": "execute",
	"POST /inference/v1/generate": "execute",
	"POST /api/chat": "execute",
	"POST /api/generate": "execute",
	"POST /api/embed": "execute",
	"POST /api/embeddings": "execute",
}

# Routes whose body may name more models, each of which is asked for.
listing_bodies := {
	"POST /v1/chat/completions",
	"POST /v1/completions",
	"POST /v1/embeddings",
	"POST /v1/responses",
	"POST /v1/responses/compact",
	"POST /v1/messages",
}

form_body := {"body": {"format": "multipart", "fields": ["model"], "absent": sort(data.patrol.choosers.body)}}

# Routes that are named in other ways, with how.
named_bodies := {
	"POST /v1/images/edits": ["execute", form_body],
	"POST /v1/images/variations": ["execute", form_body],
	"POST /v1/audio/transcriptions": ["execute", form_body],
	"POST /v1/audio/translations": ["execute", form_body],
	"POST /api/show": ["read", json_body(["model", "name"])],
	"POST /api/pull": ["write", json_body(["model", "name"])],
	"POST /api/push": ["write", json_body(["model", "name"])],
	"DELETE /api/delete": ["write", json_body(["model", "name"])],
}

bodies := object.union(named_bodies, {line: [operation, json_body(["model"])] | some line, operation in json_bodies})

# Routes whose path names the model.
paths := {
	"GET /v1/models/**": "read",
	"DELETE /v1/models/**": "write",
}

# What clients may turn into a WebSocket.
websockets := {"GET /v1/realtime"}

# Routes that ask several questions, by body, each with what they ask.
questions := {
	"POST /v1/load_lora_adapter": [
		[{"lora_name": "a"}, ["a:write"]],
		[{"lora_name": "a", "base_model_name": "b"}, ["a:write", "b:read"]],
		[{}, ["*:write"]],
		[null, ["*:write", "*:read"]],
	],
	"POST /v1/unload_lora_adapter": [[{"lora_name": "a"}, ["a:write"]], [null, ["*:write"]]],
	"POST /api/create": [
		[{"model": "a"}, ["a:write"]],
		[{"name": "a"}, ["a:write"]],
		[{"model": "a", "from": "b"}, ["a:write", "b:read"]],
		[{"model": "a", "name": "a", "from": "a"}, ["a:write", "a:read"]],
		[{"from": "b"}, ["*:write", "b:read"]],
		[{"model": "a", "files": ["sha256:1"]}, ["a:write", "*:write"]],
		[{"model": "a", "adapters": []}, ["a:write", "*:write"]],
		[{"model": "a", "from": "b", "draft_files": ["sha256:1"]}, ["a:write", "b:read", "*:write"]],
		[{}, ["*:write"]],
		[null, ["*:write", "*:read", "*:write"]],
	],
	"POST /api/copy": [
		[{"source": "a", "destination": "b"}, ["b:write", "a:read"]],
		[{"destination": "b"}, ["b:write"]],
		[{"source": "a"}, ["*:write", "a:read"]],
		[{}, ["*:write"]],
		[null, ["*:write", "*:read"]],
	],
}

# All routes of the default policy.
defaults := (((object.keys(collections) | object.keys(bodies)) | object.keys(paths)) | object.keys(questions)) | listing_bodies

# Those that this policy still has. What is tested of the default routes holds whatever
# routes were added to them or taken out.
mapped := defaults & object.keys(data.patrol.routes)

kept := {line: data.patrol.routes[line] | some line in mapped}

kept_shapes := shapes if {
	shapes := http.shapes with data.patrol.routes as kept
}

# A few routes, for what does not depend on which there are.
sample := {
	"GET /v1/models": {"entity_type": "models", "operation": "read"},
	"GET /v1/models/**": {"entity_type": "models", "operation": "read", "entity": {"path": 1}},
	"DELETE /v1/models/**": {"entity_type": "models", "operation": "write", "entity": {"path": 1}},
	"POST /v1/chat/completions": {"entity_type": "models", "operation": "execute", "entity": {"json": ["model"], "each": ["models"]}},
	"GET /api/tags": {"entity_type": "models", "operation": "read"},
	"POST /api/chat": {"entity_type": "models", "operation": "execute", "entity": {"json": ["model"]}},
	"POST /api/copy": {"entity_type": "models", "operation": "write", "entity": {"json": ["destination"]}, "also": [{"operation": "read", "entity": {"json": ["source"]}}]},
	"POST /api/create": {"entity_type": "models", "operation": "write", "entity": {"json": ["model", "name"]}, "also": [{"operation": "read", "entity": {"json": ["from"]}}]},
}

# body_of is the input with the body, null for none.
body_of(null, line) := asked(line)

body_of(body, line) := saying(body, line) if body != null

test_questions[note] if {
	some line, cases in object.filter(questions, mapped)
	some i, [body, want] in cases
	note := sprintf("%s %d", [line, i])
	got := http.requests with input as body_of(body, proxied(line))
	[sprintf("%s:%s", [r.entity, r.operation]) | some r in got] == want
	{r.domain | some r in got} == {"acme"}
	{r.entity_type | some r in got} == {"models"}
}

# One question is the only one; several are not one.
test_request_is_the_only_question[note] if {
	some note, [body, only] in {
		"one": [{"destination": "b"}, {models_on("write", "b")}],
		"two": [{"source": "a", "destination": "b"}, set()],
	}
	{r | r := http.request with input as saying(body, proxied("POST /api/copy")) with data.patrol.routes as sample} == only
}

test_names_that_disagree[note] if {
	some note, body in {
		"the two names of the new model": {"model": "a", "name": "b"},
		"and what it is made from": {"model": "a", "name": "b", "from": "c"},
	}
	not http.requests with input as saying(body, proxied("POST /api/create")) with data.patrol.routes as sample
}

test_lists[note] if {
	some line in (listing_bodies & mapped)
	some i, [body, want] in [
		[{"model": "a"}, ["a"]],
		[{"model": "a", "models": ["b", "c"]}, ["a", "b", "c"]],
		[{"model": "a", "fallbacks": ["b"], "tools[].model": ["a", "d"]}, ["a", "b", "d"]],
		[{"models": ["b"]}, ["b"]],
		[{"models": []}, ["*"]],
		[{}, ["*"]],
		[null, ["*"]],
	]
	note := sprintf("%s %d", [line, i])
	got := http.requests with input as body_of(body, proxied(line))
	[r.entity | some r in got] == want
	{r.operation | some r in got} == {"execute"}
}

test_listing_hints[note] if {
	some note in (listing_bodies & mapped)
	http.hints == {"body": {"format": "json", "fields": ["model"], "each": ["fallbacks", "models", "tools[].model"], "absent": sort(data.patrol.choosers.body)}} with input as asked(note)
}

test_question_hints[note] if {
	some note, [fields, each, unread] in object.filter(
		{
			"POST /api/create": [["from", "model", "name"], ["adapters", "draft_files", "files"], []],
			"POST /api/copy": [["destination", "source"], [], []],
			"POST /v1/load_lora_adapter": [["base_model_name", "lora_name"], [], ["!lora_path", "!lora_int_id"]],
		},
		mapped,
	)
	body := http.hints.body with input as asked(note)
	body.fields == fields
	object.get(body, "each", []) == each
	body.absent == array.concat(sort(data.patrol.choosers.body), unread)
}

# More questions than may be asked are none.
test_too_many_questions if {
	names := [sprintf("m%d", [i]) | some i in numbers.range(1, 31)]
	some_models := saying({"model": "m0", "models": names}, "POST /v1/chat/completions")
	count(http.requests) == 32 with input as some_models with data.patrol.routes as sample
	too_many := saying({"model": "m0", "models": array.concat(names, ["m32"])}, "POST /v1/chat/completions")
	not http.requests with input as too_many with data.patrol.routes as sample
}

# plain is a request that a pattern fits.
plain(pattern) := replace(replace(pattern, "**", "llama3"), "*", "sha256:0a")

# The same request in a domain, as it comes to Patrol's gateway.
proxied(line) := replace(line, " /", " /proxy/acme/")

test_collections[note] if {
	some note, operation in object.filter(collections, mapped)
	input_ := asked(proxied(plain(note)))
	http.request == models_on(operation, "*") with input as input_
	not http.hints.body with input as input_
}

test_bodies[note] if {
	some note, [operation, hints] in object.filter(bodies, mapped)
	http.request == models_on(operation, "llama3:8b") with input as naming("llama3:8b", proxied(note))
	http.request == models_on(operation, "*") with input as naming("", proxied(note))
	http.request == models_on(operation, "*") with input as asked(proxied(note))
	http.hints == hints with input as asked(proxied(note))
}

test_paths[note] if {
	some note, operation in object.filter(paths, mapped)
	some model in ["llama3", "meta-llama/Llama-3", "a/b/c/d/e/f/g/h/i/j"]
	input_ := asked(replace(proxied(note), "**", model))
	http.request == models_on(operation, model) with input as input_
	http.hints == {} with input as input_
}

methods := {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PROPFIND", "COPY", "get", "Post", "*"}

# What a method is another word for.
same(method) := "GET" if {
	method == "HEAD"
} else := method

# Every path with every method, in a domain and without one. A method that no route
# has for the path maps nothing; one that has a route asks for the same wherever the
# domain comes from.
test_every_path_and_method if {
	wrong := {note |
		some pattern in {path | some line in mapped; [_, path] := split(line, " ")}
		some method in methods
		note := concat(" ", [method, pattern])
		line := plain(note)
		requests := [request |
			some input_ in [asked(line), asked(proxied(line))]
			request := http.requests with input as input_ with data.patrol.routes as kept with data.patrol.http.shapes as kept_shapes
		]
		not agree(requests) == fits(concat(" ", [same(method), pattern]))
	}
	print("not as they should be:", wrong)
	wrong == set()
}

# Whether there are two requests that differ in nothing but the domain; undefined if
# they differ in more.
agree([]) := false

agree([bare, in_acme]) if {
	{request.domain | some request in bare} == {""}
	in_acme == [object.union(request, {"domain": "acme"}) | some request in bare]
}

# Whether some route maps it.
fits(route) if {
	route in mapped
} else := false

test_websockets if {
	found := {pattern |
		some pattern in mapped
		http.hints.websocket with input as asked(plain(pattern))
	}
	found == websockets & mapped
}

# What these servers serve beside the default routes, and nobody may ask for unless
# somebody adds a route for it.
test_left_out[note] if {
	some note in [
		"GET /v1/responses",
		"GET /v1/responses/resp_1",
		"POST /v1/responses/resp_1/cancel",
		"DELETE /v1/responses/resp_1",
		"GET /v1/responses/resp_1/input_items",
		"GET /v1/chat/completions",
		"GET /v1/chat/completions/chatcmpl_1",
		"POST /v1/files",
		"GET /v1/files/file_1/content",
		"POST /v1/uploads",
		"POST /v1/batches",
		"POST /v1/fine_tuning/jobs",
		"POST /v1/assistants",
		"POST /v1/threads/runs",
		"POST /v1/conversations",
		"POST /v1/vector_stores",
		"POST /v1/videos",
		"POST /v1/containers",
		"GET /v1/organization/admin_api_keys",
		"POST /v1/realtime/client_secrets",
		"POST /v1/realtime/sessions",
		"POST /v1/engines/llama3/completions",
		"POST /v1/realtime",
		"POST /ping",
		"POST /pause",
		"POST /resume",
		"POST /sleep",
		"POST /wake_up",
		"POST /collective_rpc",
		"POST /reset_prefix_cache",
		"POST /scale_elastic_ep",
		"POST /init_weight_transfer_engine",
		"POST /update_weights",
		"POST /abort_requests",
		"POST /start_profile",
		"GET /server_info",
		"GET /metrics",
		"GET /load",
		"GET /docs",
		"GET /openapi.json",
		"GET /",
		"GET /api/status",
		"POST /api/me",
		"POST /api/signout",
		"DELETE /api/user/keys/abc",
		"POST /api/experimental/web_search",
		"POST /api/experimental/web_fetch",
		"POST /api/blobs/sha256:0a/x",
		"DELETE /api/blobs/sha256:0a",
	]
	not http.request with input as asked(note) with data.patrol.routes as kept with data.patrol.http.shapes as kept_shapes
	not http.request with input as asked(proxied(note)) with data.patrol.routes as kept with data.patrol.http.shapes as kept_shapes
	not http.hints with input as asked(note) with data.patrol.routes as kept with data.patrol.http.shapes as kept_shapes
}

# Without the prefix the domain is for the server to know.
test_without_prefix[note] if {
	some note, entity in {"GET /v1/models": "*", "HEAD /v1/models": "*", "GET /v1/models/x": "x"}
	http.request == object.union(models_on("read", entity), {"domain": ""}) with input as asked(note) with data.patrol.routes as sample
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
	not http.request with input as asked(note) with data.patrol.routes as sample
	not http.hints with input as asked(note) with data.patrol.routes as sample
}

# Spellings that some server or other takes for a path that has a route. Most never
# get here, because the server refuses them; if they did, they would be no route, or
# the name of a model that is spelt like that.
test_evasions[note] if {
	some note, entities in {
		"GET /v1/%6dodels": [],
		"GET /v1/models%2fllama3": [],
		"GET /v1%252fmodels": [],
		"GET /v1%2Fmodels": [],
		"GET /v1//models": [],
		"GET //v1/models": [],
		"GET /v1/models//": [],
		"GET /v1/models/": [],
		"GET /./v1/models": [],
		"GET /v1/./models": [],
		"GET /api/../v1/models": [],
		"GET /v1/%2e%2e/v1/models": [],
		"GET /v1\\models": [],
		"GET /v1/models;x=1": [],
		"GET /v1;x=1/models": [],
		"GET /v1/models%00": [],
		"GET /v1/models\u0000": [],
		"GET /v1/models?x=1": [],
		"GET /v1/models#x": [],
		"GET /v1/models.json": [],
		"GET /v1/models%20": [],
		"GET /V1/MODELS": [],
		"GET /v1/Models": [],
		"GET /v1/model\u017f": [],
		"GET /v1\u2215models": [],
		"GET /v1%c0%afmodels": [],
		"GET http://models/v1/models": [],
		"GET v1/models": [],
		"GET ": [],
		"GET *": [],
		"POST /api/chat;/api/tags": [],
		"POST /v1/chat/completions/..": [],
		"DELETE /v1/models": [],
		"DELETE /v1/models/": [],
		"DELETE /v1/models/a;b": ["a;b"],
		"GET /v1/models/%2e%2e": ["%2e%2e"],
		"GET /v1/models/a%2fb": ["a%2fb"],
		"GET /proxy/acme/%70roxy/beta/v1/models": [],
		"GET /proxy/acme;x/v1/models": ["*"],
		"GET /proxy/ACME/v1/models": ["*"],
		"GET /proxy//v1/models": [],
		"GET /%70roxy/acme/v1/models": [],
		"GET /proxy%2facme/v1/models": [],
	}
	input_ := asked(note)
	[entity | entity := http.request.entity with input as input_ with data.patrol.routes as sample] == entities
}

# What else a client can say makes no difference: the path and the method are what
# they are.
test_headers_and_query_change_nothing[note] if {
	some note, said in {
		"a method in a header": {"headers": {"x-http-method-override": "DELETE", "x-http-method": "DELETE", "x-method-override": "DELETE"}},
		"a method in the query": {"query": {"_method": ["DELETE"]}},
		"a path in a header": {"headers": {"x-original-url": "/api/tags", "x-rewrite-url": "/api/tags", "x-forwarded-uri": "/api/tags", "x-forwarded-prefix": "/api"}},
		"a domain in a header": {"headers": {"host": "beta", "x-patrol-domain": "beta", "x-forwarded-host": "beta"}},
		"a model in a header": {"headers": {"x-model": "secret"}},
		"a model in the query": {"query": {"model": ["secret"], "name": ["secret"], "domain": ["beta"]}},
	}
	input_ := {"http": object.union(naming("llama3", "POST /proxy/acme/v1/chat/completions").http, said)}
	http.request == models_on("execute", "llama3") with input as input_ with data.patrol.routes as sample
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
	not http.request with input as input_ with data.patrol.routes as sample
}
