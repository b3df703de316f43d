// Package policies carries the default policy bundle.
package policies
