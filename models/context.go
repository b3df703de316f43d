package models

import "encoding/json"

// ValidateContext adds to v what a policy could not compute with in the context of a request: it
// would deny for an error of the policy, when the error is in the request. Numbers are of the
// type [json.Number].
func ValidateContext(field string, context map[string]any, v *Invalid) {
	validateContext(field, context, 0, v)
}

func validateContext(field string, value any, depth int, v *Invalid) {
	if depth > MaxContextDepth {
		v.Add(field, "nests deeper than %d levels", MaxContextDepth)
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for _, x := range value {
			validateContext(field, x, depth+1, v)
		}
	case []any:
		for _, x := range value {
			validateContext(field, x, depth+1, v)
		}
	case json.Number:
		if _, err := value.Float64(); err != nil || len(value) > MaxContextNumber {
			v.Add(field, "has a number with more than %d characters, or one too large", MaxContextNumber)
		}
	}
}
