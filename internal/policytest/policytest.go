// Package policytest makes policies for tests.
package policytest

import (
	"maps"
	"strings"
)

// Lighten replaces the tests among the files of the default policy with a few, which
// say enough to pass the check of a policy: to run the others takes most of its time.
func Lighten(files map[string][]byte) {
	maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasSuffix(name, "_test.rego") })
	files["authz/authz_test.rego"] = []byte(lightTests)
}

const lightTests = `package patrol.authz_test

import data.patrol.authz
import data.patrol.http as routes

reads := {
	"request": {"domain": "acme", "entity_type": "models", "entity": "m", "operation": "read", "context": {}},
	"token": {"id": "t", "revoked": false, "created_at": 1, "expires_at": 9, "scopes": {"acme": {"models": {"read": {"*": "s"}}}}},
	"user": {"id": "u", "admin": false, "disabled": false},
	"domain": {"id": "acme", "status": "enabled"},
	"membership": {"role": "member"},
	"now": 5,
}

test_readers_read if authz.decision == {"allow": true, "reasons": [], "scope": "s"} with input as reads

test_strangers_do_not if not authz.decision.allow with input as object.remove(reads, {"membership"})

test_routes if {
	routes.request == {"domain": "acme", "entity_type": "models", "entity": "*", "operation": "read"} with input as asks("/proxy/acme/v1/models")
	routes.request.entity == "m" with input as asks("/proxy/acme/v1/models/m")
	not routes.request with input as asks("/proxy/acme/nothing/of/the/kind")
}

asks(path) := {"http": {"method": "GET", "path": path, "segments": split(trim_prefix(path, "/"), "/"), "query": {}, "headers": {}}}
`
