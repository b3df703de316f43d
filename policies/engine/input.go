package engine

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// Value is one part of a decision's input, prepared once and shared by all the
// evaluations that use it. It is immutable. A nil *Value is an absent fact.
type Value struct{ term *ast.Term }

// Facts are what is known about a request beyond the request itself.
type Facts struct {
	Token, User, Domain, Membership *Value
}

// TokenValue prepares `input.token`.
func TokenValue(p models.PAT) *Value { return &Value{} }

// UserValue prepares `input.user`.
func UserValue(u models.User) *Value { return &Value{} }

// DomainValue prepares `input.domain`.
func DomainValue(d models.Domain) *Value { return &Value{} }

// MembershipValue prepares `input.membership`.
func MembershipValue(m models.Membership) *Value { return &Value{} }
