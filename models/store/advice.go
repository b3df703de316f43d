package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"patrol/models"
)

// AdviceSearch says which tokens advice is asked for. Empty fields do not narrow.
type AdviceSearch struct {
	UserID string
	Email  string // part of the owner's address
	Domain string // a scope of the token reaches it
	// Since is the beginning of the period that is looked at.
	Since time.Time
	// Young takes tokens in that were made later than that, and may just not have got
	// round to using their scopes.
	Young bool
}

// AdvisedPAT is a token that could do with less, and how.
type AdvisedPAT struct {
	OwnedPAT
	Scopes []models.ScopeAdvice
	Needed []models.Scope // none: it was not used
}

// rank orders advised tokens: by the number of scopes that could go, then of those
// that could be narrower.
type rank struct {
	unused, wide int
	id           string
}

func (a AdvisedPAT) rank() rank {
	r := rank{id: a.ID}
	r.unused, r.wide = models.CountAdvice(a.Scopes)
	return r
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(o.unused, r.unused), cmp.Compare(o.wide, r.wide), cmp.Compare(r.id, o.id))
}

// AdviceTotals counts the tokens of a search.
type AdviceTotals struct {
	Judged int // alive and old enough, unless young ones were asked for
	Young  int // alive and left out, since they were made within the period
	// Narrowable counts those judged that have unused permissions, Unused those of
	// these were not used at all.
	Narrowable, Unused int
}

// adviceBatch is the number of tokens that are looked at at a time.
const adviceBatch = 500

// AdvisePATs holds what the live tokens of all users may do against what they did, by the
// log, and lists those that could do with less: those with the most unused scopes
// first. All of them are looked at for each page; of their uses, one batch's are in memory
// at a time. What was rotated is left out, since it ends by itself.
func (s *Store) AdvisePATs(ctx context.Context, log *Decisions, f AdviceSearch, p Page) ([]AdvisedPAT, string, AdviceTotals, error) {
	const kind = "advice"
	var totals AdviceTotals
	key, err := p.key(kind, 3)
	if err != nil {
		return nil, "", totals, err
	}
	var after *rank
	if key != nil {
		after = &rank{id: key[2]}
		for i, to := range [...]*int{&after.unused, &after.wide} {
			if *to, err = strconv.Atoi(key[i]); err != nil {
				return nil, "", totals, badCursor()
			}
		}
	}
	best := make([]AdvisedPAT, 0, p.limit()+1)
	batch := Page{Limit: adviceBatch}
	for {
		found, next, err := s.SearchPATs(ctx, PATSearch{UserID: f.UserID, Email: f.Email, Domain: f.Domain, Status: models.StatusActive}, batch)
		if err != nil {
			return nil, "", totals, err
		}
		judged := found[:0]
		ids := make([]string, 0, len(found))
		for _, pat := range found {
			switch {
			case pat.RotatedTo != "":
			case pat.CreatedAt.After(f.Since) && !f.Young:
				totals.Young++
			default:
				judged, ids = append(judged, pat), append(ids, pat.ID)
			}
		}
		used, err := log.UsedScopes(ctx, ids, f.Since)
		if err != nil {
			return nil, "", totals, err
		}
		totals.Judged += len(judged)
		for _, pat := range judged {
			u := used[pat.ID]
			one := AdvisedPAT{OwnedPAT: pat}
			one.Scopes, one.Needed = models.Advise(pat.PAT, u.Scopes, !u.More, s.config.Limits.MaxScopes)
			if unused, wide := models.CountAdvice(one.Scopes); unused+wide == 0 {
				continue
			}
			totals.Narrowable++
			if len(one.Needed) == 0 {
				totals.Unused++
			}
			if after != nil && one.rank().compare(*after) <= 0 {
				continue
			}
			best = keepBest(best, one, cap(best))
		}
		if batch.After = next; next == "" {
			break
		}
	}
	list, next := cut(best, p.limit(), func(a AdvisedPAT) AdvisedPAT { return a }, func(a AdvisedPAT) string {
		r := a.rank()
		return newCursor(kind, strconv.Itoa(r.unused), strconv.Itoa(r.wide), r.id)
	})
	return list, next, totals, nil
}

// keepBest puts one into a sorted list of at most so many.
func keepBest(list []AdvisedPAT, one AdvisedPAT, most int) []AdvisedPAT {
	at, _ := slices.BinarySearchFunc(list, one, func(a, b AdvisedPAT) int { return a.rank().compare(b.rank()) })
	if at == most {
		return list
	}
	if len(list) == most {
		list = list[:most-1]
	}
	return slices.Insert(list, at, one)
}
