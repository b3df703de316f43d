// Package policies carries the default policy bundle in the binary, and what the
// engine holds every other bundle to: the capabilities and the schemas. The
// folder's README.md is for the people who edit it.
package policies

import "embed"

// FS is the default bundle: this folder's manifest, modules and data documents,
// tests included, beside the capabilities and schemas.
//
//go:embed .manifest authz http log patrol schemas capabilities.json
var FS embed.FS

// Capabilities is the list of built-in functions that a policy may call, in
// OPA's format. The server enforces this very list.
//
//go:embed capabilities.json
var Capabilities []byte
