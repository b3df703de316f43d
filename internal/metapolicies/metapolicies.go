// Package metapolicies carries the policies about policies: Rego over the metadata
// of a bundle's rules, which the engine evaluates when it checks one. They are not
// in the policies folder, since whatever is in there is part of the bundle.
//
//	opa test metapolicies
package metapolicies

import _ "embed"

// Module is the Rego. Its document data.metapolicies.findings is a set of {"code",
// "message", "file", "row", "col"}; the input is what `opa inspect --annotations`
// says of a bundle, under "annotations", and beside it "rules": the path and location
// of each rule.
//
//go:embed metapolicies.rego
var Module string
