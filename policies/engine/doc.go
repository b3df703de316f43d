// Package engine evaluates the policy bundle.
package engine
