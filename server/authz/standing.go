package authz

import (
	"context"
	"sync"

	"patrol/models"
	"patrol/policies/engine"
)

// Standings is a source of [Facts] that reads in one go what a decision needs beside
// the token. What is not there is nil.
type Standings interface {
	Standing(ctx context.Context, userID, domain string) (models.Standing, error)
}

// standing reads the owner of a token, a domain and what the one is in the other, all
// at once when the first of them is not cached. One request uses it.
type standing struct {
	facts        *facts
	how          reading
	user, domain string
	once         sync.Once
	drops        uint64 // how often facts had been dropped before it was read
	read         models.Standing
	err          error
}

func (f *facts) standing(how reading, user, domain string) *standing {
	return &standing{facts: f, how: how, user: user, domain: domain}
}

// load returns what was read. It is no use if the source cannot do so, or if a fact was
// dropped since: what is about to be cached may be older than that.
func (s *standing) load(ctx context.Context) (read models.Standing, ok bool, err error) {
	source, ok := s.facts.source.(Standings)
	if !ok {
		return read, false, nil
	}
	s.once.Do(func() {
		s.drops = s.facts.drops.Load()
		s.read, s.err = source.Standing(ctx, s.user, s.domain)
	})
	if s.err != nil {
		return read, false, s.err
	}
	return s.read, s.how == fromStore || s.facts.drops.Load() == s.drops, nil
}

func (s *standing) owner(ctx context.Context) (*engine.Value, error) {
	user, err := cached(ctx, s.facts, s.how, s.facts.caches.Load().users, "user", s.user, func(ctx context.Context) (*owner, error) {
		read, ok, err := s.load(ctx)
		if err != nil || ok && read.User == nil {
			return nil, err
		}
		if ok {
			return newOwner(*read.User, s.facts.absence), nil
		}
		return s.facts.readUser(ctx, s.user)
	})
	return user.now(s.facts.clock()), err
}

func (s *standing) domainOf(ctx context.Context) (*engine.Value, error) {
	return cached(ctx, s.facts, s.how, s.facts.caches.Load().domains, "domain", s.domain, func(ctx context.Context) (*engine.Value, error) {
		read, ok, err := s.load(ctx)
		if err != nil || ok && read.Domain == nil {
			return nil, err
		}
		if ok {
			return engine.DomainValue(*read.Domain), nil
		}
		return s.facts.readDomain(ctx, s.domain)
	})
}

func (s *standing) membership(ctx context.Context) (*engine.Value, error) {
	key := memberKey{s.user, s.domain}
	return cached(ctx, s.facts, s.how, s.facts.caches.Load().memberships, "membership", key, func(ctx context.Context) (*engine.Value, error) {
		read, ok, err := s.load(ctx)
		if err != nil || ok && read.Membership == nil {
			return nil, err
		}
		if ok {
			return engine.MembershipValue(*read.Membership), nil
		}
		return s.facts.readMembership(ctx, key)
	})
}
