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
# description: The domain is "" if the path names none; the server then knows it from its configuration, or denies.
# entrypoint: true
request := {
	"domain": target.domain,
	"entity_type": match.route.entity_type,
	"entity": entity,
	"operation": match.route.operation,
}

# METADATA
# title: What the server has to know before it can ask for the request
# description: |
#   Whether to read the body, how, and where in it the entity is named; and whether
#   the client may turn the connection into a WebSocket.
# entrypoint: true
hints := object.union(body_hint, websocket_hint) if match

# METADATA
# title: How the body names the entity
body_hint := {"body": {"format": format, "fields": fields}} if {
	some format in ["json", "multipart"]
	fields := match.route.entity[format]
} else := {}

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
# The entity
###############################################################################

# METADATA
# title: The entity
# description: |
#   Named by the route itself, or found where the route says. What is not named is
#   "*", any, which only a scope for any entity covers.
entity := input.http.body.model if {
	body_hint.body
} else := match.stars[match.route.entity.path - 1] if {
	match.route.entity.path
} else := query_values[0] if {
	count(query_values) == 1
} else := match.route.entity if {
	is_string(match.route.entity)
} else := "*" if {
	not query_values
}

# METADATA
# title: The values of the query parameter that names the entity
query_values := input.http.query[match.route.entity.query]
