package engine

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine/plan"
)

// perElement is added to the size of each element.
const perElement = 16

// size returns how much a value is, and stops counting beyond most: values share parts,
// so that one may be much larger than it looks.
func size(v ast.Value, most int) int { return plan.Size(v, perElement, most) }
