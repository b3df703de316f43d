package manage

import (
	"context"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// Advise says which scopes of a token of p were not used in that many days, and
// which could be narrower.
func (s *Service) Advise(ctx context.Context, p models.Principal, id string, days int) (api.Advice, error) {
	pat, err := s.PAT(ctx, p, id)
	if err != nil {
		return api.Advice{}, err
	}
	return s.AdviseOn(ctx, pat, days)
}

// AdviseOn is [Service.Advise] for a token that was read already.
func (s *Service) AdviseOn(ctx context.Context, pat models.PAT, days int) (api.Advice, error) {
	period, err := s.advicePeriod(ctx, days)
	if err != nil {
		return api.Advice{}, err
	}
	used, err := s.decided.UsedScopes(ctx, []string{pat.ID}, period.since)
	if err != nil {
		return api.Advice{}, err
	}
	u := used[pat.ID]
	advice, needed := models.Advise(pat, u.Scopes, !u.More, s.cfg.Limits.MaxScopes)
	return period.advice(pat, advice, needed), nil
}

// advicePeriod is the time that advice looks back over, and how much of it the log covers.
type advicePeriod struct {
	days     int
	since    time.Time
	coverage api.LogCoverage
}

func (s *Service) advicePeriod(ctx context.Context, days int) (advicePeriod, error) {
	if s.decided == nil {
		return advicePeriod{}, ErrNoDecisionLog
	}
	since := s.now().UTC().Add(-time.Duration(days) * 24 * time.Hour)
	coverage, err := s.coverage(ctx, models.DayOf(since))
	return advicePeriod{days, since, coverage}, err
}

// known reports whether the log covers all of the period and nothing was lost.
func (p advicePeriod) known() bool {
	return p.coverage.From != nil && !p.coverage.From.After(models.DayOf(p.since)) && p.coverage.Lost == 0
}

// advice puts what the scopes of a token were used for in the form of the API.
func (p advicePeriod) advice(pat models.PAT, advice []models.ScopeAdvice, needed []models.Scope) api.Advice {
	out := api.Advice{
		TokenID: pat.ID, Name: pat.Name, Days: p.days, Coverage: p.coverage, Enough: p.known() && !pat.CreatedAt.After(p.since),
		Scopes: make([]api.ScopeAdvice, len(advice)), Unused: len(needed) == 0, Narrowed: []api.NewScope{},
	}
	if from := p.coverage.From; from != nil && pat.CreatedAt.After(*from) {
		created := pat.CreatedAt.UTC()
		out.Coverage.From = &created
	}
	for i, a := range advice {
		one := &out.Scopes[i]
		*one = api.ScopeAdvice{Scope: api.Scope(a.Scope), Uses: a.Uses, LastUsedAt: a.LastAt, Do: "keep"}
		switch {
		case a.Keep:
		case len(a.Narrowed) == 0:
			one.Do = "remove"
		default:
			one.Do, one.To = "narrow", newScopes(a.Narrowed)
		}
	}
	if unused, wide := models.CountAdvice(advice); unused+wide > 0 && !out.Unused {
		out.Narrowed = newScopes(needed)
	}
	return out
}

// AdviceSearch says which tokens of all users are advised on.
type AdviceSearch struct {
	Days   int
	UserID string
	Owner  string // part of the owner's address
	Domain string // a scope of the token reaches it
	// Uncertain also takes what the log does not suffice for: tokens that were made
	// within the period, and all of them if the log does not cover it.
	Uncertain bool
}

// AdviseAll lists the live tokens of all users that could do with less, those with
// the most unused scopes first.
func (s *Service) AdviseAll(ctx context.Context, f AdviceSearch, page store.Page) (api.AdvicePage, error) {
	period, err := s.advicePeriod(ctx, f.Days)
	if err != nil {
		return api.AdvicePage{}, err
	}
	out := api.AdvicePage{Days: f.Days, Coverage: period.coverage, Enough: period.known()}
	out.Items = []api.OwnedAdvice{}
	if !out.Enough && !f.Uncertain {
		return out, nil // nobody's scope is unused for all that is known
	}
	found, next, totals, err := s.store.AdvisePATs(ctx, s.decided, store.AdviceSearch{
		UserID: f.UserID, Email: f.Owner, Domain: f.Domain, Since: period.since, Young: f.Uncertain,
	}, page)
	if err != nil {
		return api.AdvicePage{}, err
	}
	for _, a := range found {
		one := api.OwnedAdvice{
			Advice: period.advice(a.PAT, a.Scopes, a.Needed), UserID: a.UserID, Email: a.Email,
			CreatedAt: a.CreatedAt.UTC(), ExpiresAt: s.Counted(a.PAT).ExpiresAt.UTC(), LastUsedAt: UTC(a.LastUsedAt),
		}
		one.UnusedScopes, one.WideScopes = models.CountAdvice(a.Scopes)
		out.Items = append(out.Items, one)
	}
	if next != "" {
		out.Next = &next
	}
	out.Tokens = api.AdviceTotals{Judged: totals.Judged, TooYoung: totals.Young, Narrowable: totals.Narrowable, Unused: totals.Unused}
	return out, nil
}

func newScopes(scopes []models.Scope) []api.NewScope {
	out := make([]api.NewScope, len(scopes))
	for i, sc := range scopes {
		out[i] = api.NewScope{Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation}
	}
	return out
}

// NarrowPAT leaves a token of p some of what it may do.
func (s *Service) NarrowPAT(ctx context.Context, p models.Principal, id string, in api.Narrowing) (models.PAT, error) {
	scopes := make([]models.Scope, len(in.Scopes))
	for i, sc := range in.Scopes {
		scopes[i] = newScope(sc)
	}
	return s.store.NarrowPAT(ctx, p.Actor, p.User.ID, id, scopes)
}
