package manage

import (
	"context"

	"patrol/api"
	"patrol/models/store"
)

// The lists of the store, for surfaces, which do not know it.
type (
	// Page says which part of a list is wanted.
	Page = store.Page
	// OwnedPAT is a token with the address of its owner.
	OwnedPAT = store.OwnedPAT
	// PATSearch narrows a list of tokens.
	PATSearch = store.PATSearch
	// Member is a user with a role in a domain.
	Member = store.Member
	// UserFilter narrows a list of users.
	UserFilter = store.UserFilter
	// DomainFilter narrows a list of domains.
	DomainFilter = store.DomainFilter
	// MemberFilter narrows a list of members.
	MemberFilter = store.MemberFilter
	// AuditFilter narrows the audit log.
	AuditFilter = store.AuditFilter
	// AuditEvent is one thing that was done.
	AuditEvent = store.AuditEvent
	// DecisionFilter narrows a list of decisions.
	DecisionFilter = store.DecisionFilter
	// RefusalFilter narrows a list of counted refusals.
	RefusalFilter = store.RefusalFilter
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

// WireEvent returns an event of the audit log in the form of the API.
func WireEvent(e AuditEvent) api.AuditEvent {
	out := api.AuditEvent{
		ID: e.ID, At: e.At.UTC(), Action: e.Action, Subject: e.Subject, Detail: e.Detail,
		Actor: api.AuditActor{
			Kind: e.Actor.Kind, UserID: e.Actor.UserID, TokenID: e.Actor.TokenID,
			IP: e.Actor.IP, UserAgent: e.Actor.UserAgent, RequestID: e.Actor.RequestID,
		},
	}
	if out.Detail == nil {
		out.Detail = map[string]string{}
	}
	return out
}
