# METADATA
# title: Routes
# description: |
#   Says what a proxied request asks for, so that it can be judged. The routes are
#   data: data.patrol.routes explains how one is written. What no route maps is
#   undefined here and denied by the server as route_unmapped.
#
#   The server hands over a path that can be read in one way only: decoded once,
#   without empty, `.` or `..` segments. Everything here compares whole segments.
# schemas:
#   - input: schema.http_input
package patrol.http

# METADATA
# title: What the request asks for
# description: |
#   One question or several, all of which must be answered with yes. The domain is ""
#   if the path names none; the server then knows it from its configuration, or
#   denies. Where it cannot be told what a question is about, there are none at all:
#   a question that is left out would be one that nobody judges.
# entrypoint: true
requests := asked if {
	every question in questions {
		entities(question)
	}
	asked := [request |
		some question in questions
		some entity in entities(question)
		request := {
			"domain": target.domain,
			"entity_type": question.entity_type,
			"entity": entity,
			"operation": question.operation,
		}
	]
	count(asked) <= 32 # more than that is no answer
}

# METADATA
# title: What the request asks for, if it is one question
# description: |
#   The server asks for `requests`. This is for policies and programs from before
#   there was such a thing, and undefined where one question would not say it all.
# entrypoint: true
request := requests[0] if {
	count(requests) == 1
}

# METADATA
# title: What the server has to know before it can ask for the requests
# description: |
#   Whether to read the body, how, where in it entities are named, and what must not
#   be there; and whether the client may turn the connection into a WebSocket.
# entrypoint: true
hints := object.union(body_hint, websocket_hint) if match

# METADATA
# title: How the body names the entities
body_hint := {"body": {part: value |
	some part, value in {"format": format, "fields": body_fields, "each": body_lists, "absent": body_absent}
	count(value) > 0
}} if {
	format
} else := {}

# METADATA
# title: How the body is written
format := "json" if {
	count(body_names("json") | body_names("each")) > 0
} else := "multipart" if {
	count(body_names("multipart")) > 0
}

# METADATA
# title: The names that the route's questions look for in the body, by how they look
body_names(form) := {name | some question in questions; some name in question.entity[form]}

# METADATA
# title: The fields of the body that hold one name each
body_fields := [name | some name in (body_names("json") | body_names("multipart"))]

# METADATA
# title: The fields of the body that hold several
body_lists := [name | some name in (body_names("each") | {name | some question in questions; some name in question.when})]

# METADATA
# title: The fields that the body must not have
# description: |
#   Names by which some server or other lets its clients choose a model, or where it
#   is, and what the route adds. What the route reads is not among them, whatever
#   they say; an exclamation mark exempts what it lets pass unread.
body_absent := array.concat(
	[name | some name in ({name | some name in choosers} | {name | some name in match.route.absent})],
	[concat("", ["!", name]) | some name in match.route.unread],
)

# METADATA
# title: Names in a body that choose what the route is about
choosers := data.patrol.choosers.body if {
	some question in questions
	question.entity_type in data.patrol.choosers.entity_types
} else := []

# METADATA
# title: Whether the client may upgrade to a WebSocket
websocket_hint := {"websocket": true} if {
	match.route.websocket == true
} else := {}

###############################################################################
# The route
###############################################################################

# METADATA
# title: The request without the part of the path that is Patrol's own
# description: /proxy/<domain>/v1/models is /v1/models in <domain>.
target := {"domain": domain, "segments": segments} if {
	input.http.segments[0] == "proxy"
	domain := input.http.segments[1]
	segments := array.slice(input.http.segments, 2, count(input.http.segments))
} else := {"domain": "", "segments": input.http.segments} if {
	not input.http.segments[0] == "proxy"
}

# METADATA
# title: The method that routes are written for
# description: HEAD is GET without the content of the answer.
method := "GET" if {
	input.http.method == "HEAD"
} else := input.http.method

# METADATA
# title: The path is its segments and nothing else
# description: |
#   It ends in no slash, in particular. Stars have a meaning in patterns and none
#   in requests.
path_is_plain if {
	split(input.http.path, "/") == array.concat([""], input.http.segments)
	not contains(input.http.path, "*")
}

path_is_plain if {
	input.http.path == "/"
	input.http.segments == []
}

# METADATA
# title: The route that maps the request
# description: |
#   With it comes what the stars of its pattern stand for. The plain path is looked
#   up by name. So is what the path is in each shape that a pattern has, which are
#   few, the preferred one first. So it does not matter how many routes there are.
match := {"route": route, "stars": []} if {
	path_is_plain
	route := data.patrol.routes[concat(" ", [method, path_of(target.segments)])]
} else := [found |
	path_is_plain
	some shape in possible_shapes
	found := {
		"route": data.patrol.routes[concat(" ", [method, path_of(pattern(shape))])],
		"stars": [stands_for(kind, i) | some i, kind in shape; kind != "plain"],
	}
][0]

# METADATA
# title: The shapes that the path could have
possible_shapes := object.get(shapes, [method, target.segments[0], count(target.segments)], set()) | {shape |
	some shape in object.get(shapes, [method, target.segments[0], "more"], set())
	count(shape) <= count(target.segments)
}

# METADATA
# title: The shapes of the patterns that have stars
# description: |
#   By method, first segment and number of segments ("more" where the pattern ends
#   in `**`). A shape says what each segment of a pattern is, in words that sort the
#   way patterns are preferred: from the left, plain before star before stars. The
#   server works this out once, when it loads the policy.
# custom:
#   once: true
shapes[method][segments[0]][size_of(shape)] contains shape if {
	some name, _ in data.patrol.routes
	contains(name, "*")
	[method, path] := split(name, " ")
	segments := split(trim_prefix(path, "/"), "/")
	shape := [object.get({"*": "star", "**": "stars"}, segment, "plain") | some segment in segments]
}

# METADATA
# title: How many segments a path of this shape has
size_of(shape) := "more" if {
	"stars" in shape
} else := count(shape)

# METADATA
# title: The pattern of this shape that the path could be of
pattern(shape) := [segment |
	some i, kind in shape
	segment := {"plain": target.segments[i], "star": "*", "stars": "**"}[kind]
]

# METADATA
# title: What a star stands for
# description: What `**` stands for keeps its slashes.
stands_for("star", i) := target.segments[i]

stands_for("stars", i) := concat("/", array.slice(target.segments, i, count(target.segments)))

# METADATA
# title: The path with the given segments
path_of(segments) := "/" if {
	segments == []
} else := concat("/", array.concat([""], segments))

###############################################################################
# The questions
###############################################################################

# METADATA
# title: What the route asks
# description: |
#   Its own question comes first. The others, under `also`, are asked if the request
#   names what they are about, and have the route's entity type unless they say another.
questions := array.concat([main_question], [question |
	some other in object.get(match.route, "also", [])
	question := object.union({"entity_type": match.route.entity_type, "main": false}, other)
])

# METADATA
# title: The route's own question
main_question := {
	"entity_type": match.route.entity_type,
	"operation": match.route.operation,
	"entity": object.get(match.route, "entity", "*"),
	"main": true,
}

# METADATA
# title: What a question is about
# description: |
#   Named by the route itself, or found where the route says. What is not named is
#   "*", any, which only a scope for any entity covers. If it is another question than
#   the route's own that finds no name, it is not asked; without a body to look at
#   nobody knows, and it is asked about any. Undefined is: it cannot be told.
entities(question) := [] if {
	input.http.body
	question.when
	not body_has_any(question.when)
} else := [question.entity] if {
	is_string(question.entity)
} else := [match.stars[question.entity.path - 1]] if {
	question.entity.path
} else := named_by_query(question.entity.query) if {
	question.entity.query
} else := named_by_body(question) if {
	not question.entity.path
	not question.entity.query
}

# METADATA
# title: The name that the query gives
# description: Given twice, or once more under a name that some readers take for the same, it cannot be told.
named_by_query(parameter) := values if {
	values := input.http.query[parameter]
	count(values) == 1
	{name | some name, _ in input.http.query; folded(name) == folded(parameter)} == {parameter}
} else := ["*"] if {
	not input.http.query[parameter]
}

# METADATA
# title: A name as it is to readers who ignore case, signs, and what may be an index
folded(name) := lower(regex.replace(regex.replace(name, `[\[.].*$`, ""), `[^\p{L}\p{N}]`, ""))

# METADATA
# title: The names that the body gives
named_by_body(question) := ["*"] if {
	not input.http.body
} else := names if {
	names := [name | some name in (names_under(question) | {name | some field in question.entity.each; some name in object.get(input.http.body, field, [])})]
	count(names) > 0
	count(names_under(question)) < 2
} else := none_for(question) if {
	names_under(question) == set()
}

# METADATA
# title: The names in the fields that hold one each, which must be the same in all
names_under(question) := {name |
	some form in ["json", "multipart"]
	some field in question.entity[form]
	name := input.http.body[field]
}

# METADATA
# title: What a question is about that finds no name
none_for(question) := ["*"] if {
	question.main
} else := []

# METADATA
# title: Whether the body has any of these fields
body_has_any(fields) if {
	some field in fields
	input.http.body[field]
}
