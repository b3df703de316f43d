package manage

import (
	"context"

	"patrol/models/store"
)

// The lists of the store, for those who read them through a [Service].
type (
	Page           = store.Page
	OwnedPAT       = store.OwnedPAT
	PATSearch      = store.PATSearch
	Member         = store.Member
	AuditFilter    = store.AuditFilter
	AuditEvent     = store.AuditEvent
	DecisionFilter = store.DecisionFilter
	RefusalFilter  = store.RefusalFilter
)

// MaxPage is the largest number of items that a page of a list has.
const MaxPage = 200

// Names returns the addresses of users and the names of tokens, by id.
func (s *Service) Names(ctx context.Context, users, tokens []string) (emails, names map[string]string, err error) {
	return s.store.Names(ctx, users, tokens)
}

// AuditEvents lists what was done, the latest first.
func (s *Service) AuditEvents(ctx context.Context, f AuditFilter, page Page) ([]AuditEvent, string, error) {
	return s.store.AuditEvents(ctx, f, page)
}
