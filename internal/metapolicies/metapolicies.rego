# METADATA
# title: Policies about policies
# description: |
#   What the metadata of a policy's rules must say, so that everybody who is denied is
#   told why, and everybody who reads the policy knows what a rule is for. The input is
#   what OPA itself makes of the metadata, and beside it the rules.
package metapolicies

# METADATA
# title: What is wrong, and where
# entrypoint: true
findings contains finding("metadata_missing", sprintf("%s has no title in its METADATA", [rule.path]), rule.location) if {
	some rule in input.rules
	not titled[rule.path]
}

findings contains finding("code_malformed", sprintf("%v is no reason code: they are 1 to 64 of a-z, 0-9 and _, letters first", [code]), a.location) if {
	some a in input.annotations
	code := a.annotations.custom.code
	not well_formed(code)
}

findings contains finding("code_duplicate", sprintf("the reason code %s is another rule's as well (%s:%d)", [code, other.location.file, other.location.row]), a.location) if {
	some i, a in input.annotations
	code := a.annotations.custom.code
	some j, other in input.annotations
	i != j
	other.annotations.custom.code == code
}

findings contains finding("code_reserved", sprintf("the reason code %s is Patrol's own, for what no policy decides", [code]), a.location) if {
	some a in input.annotations
	code := a.annotations.custom.code
	code in reserved
}

findings contains finding("message_missing", sprintf("the rule that gives the reason %v has no message for the person who is denied", [code]), a.location) if {
	some a in input.annotations
	code := a.annotations.custom.code
	not says_something(a.annotations.custom)
}

findings contains finding("entrypoint_undeclared", sprintf("%s does not say `entrypoint: true` in its METADATA", [rule.path]), rule.location) if {
	some rule in input.rules
	rule.path in entrypoints
	not declared[rule.path]
}

findings contains finding("test_misplaced", sprintf("%s is a test: it belongs into a file named …_test.rego", [rule.path]), rule.location) if {
	some rule in input.rules
	some prefix in ["test_", "todo_test_"]
	startswith(regex.replace(rule.path, `^.*\.`, ""), prefix)
}

# METADATA
# title: The documents that the server asks for
entrypoints := {"data.patrol.authz.decision", "data.patrol.http.request", "data.patrol.http.requests"}

# METADATA
# title: The reason codes that are decided outside of policies
reserved := {
	"body_invalid", "body_too_large", "encoding_unsupported", "policy_error", "rate_limited",
	"token_malformed", "token_missing", "token_unknown", "unavailable",
}

# METADATA
# title: The paths of rules that have a title
titled contains path_of(a) if {
	some a in input.annotations
	a.annotations.scope in {"rule", "document"}
	trim_space(a.annotations.title) != ""
}

# METADATA
# title: The paths that are declared as entrypoints
declared contains path_of(a) if {
	some a in input.annotations
	a.annotations.entrypoint == true
}

# METADATA
# title: Where metadata are about, as a dotted path
path_of(a) := concat(".", [term.value | some term in a.path; is_string(term.value)])

# METADATA
# title: Whether a text can be a reason code
well_formed(code) if regex.match(`^[a-z][a-z0-9_]{0,63}$`, code)

# METADATA
# title: Whether a reason has a message
says_something(reason) if trim_space(reason.message) != ""

# METADATA
# title: A finding at a place
finding(code, message, location) := {
	"code": code,
	"message": message,
	"file": location.file,
	"row": location.row,
	"col": location.col,
}
