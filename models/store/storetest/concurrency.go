package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// race runs n functions at once, each with one of two stores on the database,
// and returns their errors.
func (e *env) race(n int, fn func(s *store.Store, i int) error) []error {
	e.Helper()
	stores := []*store.Store{e.store, e.second()}
	errs, start := make([]error, n), make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(stores[i%2], i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// wins checks that exactly n of the errors are nil and the others have the code.
func (e *env) wins(n int, lost models.Code, errs []error) {
	e.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			e.fails(lost, err)
		}
	}
	require.Equal(e, n, won)
}

const rounds = 8

var concurrencyCases = []testCase{
	{name: "one name goes to one token", test: func(e *env) {
		ann := e.user("ann").ID
		for round := range rounds {
			name := fmt.Sprint(round)
			if round%2 == 0 { // a holder that expired
				e.pat(ann, name, lives(2*time.Second))
				e.clock.Advance(2 * time.Second)
			}
			e.wins(1, models.CodeTaken, e.race(6, func(s *store.Store, _ int) error {
				_, err := s.CreatePAT(e.ctx, actor, e.newPAT(ann, name))
				return err
			}))
			assert.Len(e, e.live(ann), round+1)
		}
	}},
	{name: "one name goes to a new token or to a renamed one", test: func(e *env) {
		ann := e.user("ann").ID
		for round := range rounds {
			name, p := fmt.Sprint(round), e.pat(ann, fmt.Sprint("old ", round))
			e.wins(1, models.CodeTaken, e.race(2, func(s *store.Store, i int) error {
				if i == 0 {
					_, err := s.CreatePAT(e.ctx, actor, e.newPAT(ann, name))
					return err
				}
				_, err := s.UpdatePAT(e.ctx, actor, ann, p.ID, store.PATPatch{Name: &name})
				return err
			}))
		}
	}},
	{name: "a token is rotated once", test: func(e *env) {
		for round := range rounds {
			grace := time.Duration(round%2) * time.Minute
			p := e.pat(e.user(fmt.Sprint("u", round)).ID, "ci")
			errs := e.race(4, func(s *store.Store, _ int) error {
				_, err := s.RotatePAT(e.ctx, actor, p.UserID, p.ID, e.newPAT("", ""), grace)
				return err
			})
			e.wins(1, models.CodeAlreadyRotated, errs)
			successor := e.reread(p.ID).RotatedTo
			for _, err := range errs {
				if rotated, ok := err.(*models.Error); ok { //nolint:errorlint // the store returns it as it is
					assert.Equal(e, successor, rotated.RotatedTo)
				}
			}
			assert.Len(e, e.live(p.UserID), 1+round%2)
			assert.Contains(e, e.live(p.UserID), successor)
		}
	}},
	{name: "revoking against rotating leaves one live token at most", test: func(e *env) {
		for round := range 3 * rounds {
			grace := time.Duration(round%2) * time.Minute
			p := e.pat(e.user(fmt.Sprint("u", round)).ID, "ci")
			errs := e.race(2, func(s *store.Store, i int) error {
				if (i+round/2)%2 == 0 {
					_, err := s.RevokePAT(e.ctx, actor, p.UserID, p.ID)
					return err
				}
				_, err := s.RotatePAT(e.ctx, actor, p.UserID, p.ID, e.newPAT("", ""), grace)
				return err
			})
			old, live := e.reread(p.ID), e.live(p.UserID)
			assert.NotNil(e, old.RevokedAt, "it is revoked either way")
			if old.RotatedTo == "" {
				assert.Empty(e, live)
				e.wins(1, models.CodeConflict, errs)
			} else {
				assert.Equal(e, []string{old.RotatedTo}, live)
				e.wins(2, "", errs)
			}
		}
	}},
	{name: "revoking against rotating further leaves no predecessor alive", test: func(e *env) {
		for round := range rounds {
			a := e.pat(e.user(fmt.Sprint("u", round)).ID, "ci")
			b := e.rotate(a, time.Hour)
			e.race(2, func(s *store.Store, i int) error {
				if i == 0 {
					_, err := s.RevokePAT(e.ctx, actor, b.UserID, b.ID)
					return err
				}
				_, err := s.RotatePAT(e.ctx, actor, b.UserID, b.ID, e.newPAT("", ""), time.Hour)
				return err
			})
			live := e.live(a.UserID)
			assert.NotContains(e, live, a.ID)
			assert.NotContains(e, live, b.ID)
			assert.LessOrEqual(e, len(live), 1)
		}
	}},
	{name: "the limit of live tokens holds", config: limits(models.Limits{MaxLive: 5}), test: func(e *env) {
		ann := e.user("ann").ID
		p := e.pat(ann, "first")
		e.wins(4, models.CodeLimitReached, e.race(12, func(s *store.Store, i int) error {
			if i == 0 {
				_, err := s.RotatePAT(e.ctx, actor, ann, p.ID, e.newPAT("", ""), time.Hour)
				return err
			}
			_, err := s.CreatePAT(e.ctx, actor, e.newPAT(ann, fmt.Sprint(i)))
			return err
		}))
		assert.Len(e, e.live(ann), 5)
	}},
	{name: "the limit of scopes holds, and one scope is added once", config: limits(models.Limits{MaxScopes: 4}), test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci")
		e.wins(1, models.CodeTaken, e.race(4, func(s *store.Store, _ int) error {
			_, err := s.AddScope(e.ctx, actor, p.UserID, p.ID, scopes("b:models:*:read")[0])
			return err
		}))
		e.wins(2, models.CodeLimitReached, e.race(6, func(s *store.Store, i int) error {
			_, err := s.AddScope(e.ctx, actor, p.UserID, p.ID, scopes(fmt.Sprintf("c%d:models:*:read", i))[0])
			return err
		}))
		p = e.reread(p.ID)
		require.Len(e, p.Scopes, 4)
		e.wins(3, models.CodeLastScope, e.race(4, func(s *store.Store, i int) error {
			_, err := s.RemoveScope(e.ctx, actor, p.UserID, p.ID, p.Scopes[i].ID)
			return err
		}))
	}},
	{name: "there is one first admin", test: func(e *env) {
		e.wins(1, models.CodeConflict, e.race(8, func(s *store.Store, i int) error {
			_, err := s.CreateFirstAdmin(e.ctx, actor, models.User{Email: fmt.Sprintf("u%d@example.org", i)})
			return err
		}))
		n, err := e.store.CountUsers(e.ctx)
		require.NoError(e, err)
		assert.EqualValues(e, 1, n)
	}},
	{name: "nobody becomes the first admin beside another user", test: func(e *env) {
		errs := e.race(2, func(s *store.Store, i int) error {
			if i == 0 {
				_, err := s.CreateFirstAdmin(e.ctx, actor, models.User{ID: "admin", Email: "admin@example.org"})
				return err
			}
			_, err := s.CreateUser(e.ctx, actor, models.User{ID: "user", Email: "user@example.org"})
			return err
		})
		require.NoError(e, errs[1])
		if errs[0] != nil {
			e.fails(models.CodeConflict, errs[0])
			return
		}
		changes := e.changesAfter(fromStart)
		assert.Equal(e, []string{"user admin", "user user"}, changes, "the admin was first")
	}},
	{name: "an admin is left", test: func(e *env) {
		yes, no := true, false
		for round := range rounds {
			var ids []string
			for i := range 4 {
				ids = append(ids, e.user(fmt.Sprintf("a%d-%d", round, i), admin).ID)
			}
			if round > 0 { // the one who was left goes first
				admins, _, err := e.store.Users(e.ctx, store.UserFilter{Admin: &yes, Disabled: &no}, store.Page{})
				require.NoError(e, err)
				require.Len(e, admins, 5)
				ids = nil
				for _, a := range admins {
					ids = append(ids, a.ID)
				}
			}
			e.wins(len(ids)-1, models.CodeConflict, e.race(len(ids), func(s *store.Store, i int) error {
				patch := store.UserPatch{Admin: &no}
				if i%2 == 0 {
					patch = store.UserPatch{Disabled: &yes}
				}
				_, err := s.UpdateUser(e.ctx, actor, ids[i], patch)
				return err
			}))
		}
	}},
	{name: "a member joins once", test: func(e *env) {
		ann := e.user("ann").ID
		e.domain("acme")
		var mu sync.Mutex
		created := 0
		for _, err := range e.race(6, func(s *store.Store, i int) error {
			joined, err := s.SetMember(e.ctx, actor, models.Membership{UserID: ann, Domain: "acme", Role: fmt.Sprint("role", i)})
			mu.Lock()
			defer mu.Unlock()
			if joined {
				created++
			}
			return err
		}) {
			require.NoError(e, err)
		}
		assert.Equal(e, 1, created)
	}},
	{name: "uses from everywhere leave the latest", test: func(e *env) {
		ann := e.user("ann").ID
		pats := []models.PAT{e.pat(ann, "a"), e.pat(ann, "b"), e.pat(ann, "c")}
		const n = 12
		for _, err := range e.race(n, func(s *store.Store, i int) error {
			var uses []store.Use
			for j := range pats {
				p := pats[(i+j)%len(pats)]
				uses = append(uses, store.Use{TokenID: p.ID, At: e.clock.Now().Add(time.Duration(i) * time.Second), IP: fmt.Sprint(i)})
			}
			return s.RecordUses(e.ctx, uses)
		}) {
			require.NoError(e, err)
		}
		for _, p := range pats {
			assert.Equal(e, fmt.Sprint(n-1), e.reread(p.ID).LastUsedIP)
		}
	}},
	{name: "the feed misses nothing and tells nothing twice", test: func(e *env) {
		const writers, each = 8, 12
		done := make(chan struct{})
		seen := make(chan []store.Change, 1)
		reader := e.second()
		go func() {
			var got []store.Change
			at := fromStart
			for finished := false; ; {
				page, err := reader.Changes(e.ctx, at, 1000)
				if !assert.NoError(e, err) || !assert.True(e, page.Complete) {
					break
				}
				at = page.Next
				got = append(got, page.Changes...)
				if len(page.Changes) > 0 {
					continue
				}
				if finished {
					break
				}
				select {
				case <-done:
					finished = true // once more, for what came since
				default:
				}
			}
			seen <- got
		}()
		for _, err := range e.race(writers, func(s *store.Store, w int) error {
			for i := range each {
				if _, err := s.CreateDomain(e.ctx, actor, models.Domain{ID: fmt.Sprintf("d-%d-%d", w, i)}); err != nil {
					return err
				}
				if i%3 == 0 { // a number that is drawn for nothing
					if _, err := s.CreateDomain(e.ctx, actor, models.Domain{ID: fmt.Sprintf("d-%d-%d", w, i)}); models.CodeOf(err) != models.CodeTaken {
						return err
					}
				}
			}
			return nil
		}) {
			require.NoError(e, err)
		}
		close(done)
		got := <-seen
		all, err := e.store.Changes(e.ctx, fromStart, 10*writers*each)
		require.NoError(e, err)
		require.True(e, all.Complete)
		assert.Len(e, all.Changes, writers*each)
		assert.ElementsMatch(e, all.Changes, got, "each is seen once")
	}},
}
