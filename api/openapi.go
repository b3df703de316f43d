package api

import _ "embed"

// OpenAPI is the OpenAPI 3.1 document of the HTTP interface, in YAML. Tests hold
// it against the router, both ways, and against what the server answers.
//
//go:embed openapi.yaml
var OpenAPI []byte
