package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// fleet is a store with a decision log beside it, and who owns tokens there.
type fleet struct {
	*testing.T
	store *store.Store
	log   *store.Decisions
	clock *storetest.Clock
	users map[string]models.User
	pats  map[string]models.PAT
}

func newFleet(t *testing.T, url string) *fleet {
	f := &fleet{T: t, clock: storetest.NewClock(), users: map[string]models.User{}, pats: map[string]models.PAT{}}
	f.store = storetest.New(t, url, func(c *store.Config) { c.Clock = f.clock.Now; c.Limits.MaxLive = 2000 })
	f.log = openLog(t, url, f.clock)
	for _, name := range []string{"ann", "bob"} {
		u, err := f.store.CreateUser(t.Context(), models.Actor{}, models.User{Email: name + "@example.org"})
		require.NoError(t, err)
		f.users[name] = u
	}
	return f
}

// pat makes a token that is so many days old. Its scopes have ids that follow its
// name.
func (f *fleet) pat(owner, name string, age int, texts ...string) models.PAT {
	f.Helper()
	p := models.PAT{
		ID: models.NewID(), UserID: f.users[owner].ID, Name: name, KeyID: "k", MAC: make([]byte, 32),
		CreatedAt: f.clock.Now().AddDate(0, 0, -age), ExpiresAt: f.clock.Now().AddDate(0, 0, 30),
	}
	for i, text := range texts {
		s, err := models.ParseScope(text)
		require.NoError(f, err)
		s.ID = fmt.Sprint(name, "-", i)
		p.Scopes = append(p.Scopes, s)
	}
	p, err := f.store.CreatePAT(f.Context(), models.Actor{}, p)
	require.NoError(f, err)
	f.pats[name] = p
	return p
}

// used says that a scope granted requests for entities, so many days ago.
func (f *fleet) used(name string, scope, daysAgo int, entities ...string) {
	f.Helper()
	p := f.pats[name]
	s, day := p.Scopes[scope], models.DayOf(f.clock.Now().AddDate(0, 0, -daysAgo))
	var c models.DecisionCounts
	for _, entity := range entities {
		c.Used = append(c.Used, models.UsedScope{
			Day: day, TokenID: p.ID, ScopeID: s.ID, Domain: "acme", EntityType: s.EntityType, Entity: entity, Operation: s.Operation, Count: 1, LastAt: day,
		})
	}
	require.NoError(f, f.log.AddCounts(f.Context(), c))
}

// advised lists tokens as name:unused/wide, page by page, and what is counted.
func (f *fleet) advised(search store.AdviceSearch, limit int) (list []string, totals store.AdviceTotals) {
	f.Helper()
	page := store.Page{Limit: limit}
	for {
		found, next, counted, err := f.store.AdvisePATs(f.Context(), f.log, search, page)
		require.NoError(f, err)
		for _, a := range found {
			unused, wide := models.CountAdvice(a.Scopes)
			list = append(list, fmt.Sprintf("%s:%d/%d", a.Name, unused, wide))
			assert.NotEmpty(f, a.Email)
			// One token asked about by itself gets the same advice.
			used, err := f.log.UsedScopes(f.Context(), []string{a.ID}, search.Since)
			require.NoError(f, err)
			advice, needed := models.Advise(a.PAT, used[a.ID].Scopes, true, 64)
			assert.Equal(f, advice, a.Scopes, a.Name)
			assert.Equal(f, needed, a.Needed, a.Name)
		}
		totals = counted
		if page.After = next; next == "" {
			return list, totals
		}
	}
}

func TestTokensThatCouldDoWithLess(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		f := newFleet(t, url)
		three := []string{"acme:models:*:read", "acme:models:*:execute", "acme:datasets:d:write"}
		f.pat("ann", "idle", 40, three...)
		f.pat("ann", "partly", 40, three...)
		f.used("partly", 0, 1, "*")
		f.pat("bob", "wide", 40, three[:2]...)
		f.used("wide", 0, 2, "llama3")
		f.used("wide", 1, 29, "llama3", "mistral")
		f.pat("bob", "fit", 40, three...)
		for i, entity := range []string{"*", "*", "d"} {
			f.used("fit", i, 0, entity)
		}
		f.pat("bob", "long ago", 40, "beta:models:x:read")
		f.used("long ago", 0, 31, "x")
		f.pat("bob", "young", 29, three...)
		f.pat("bob", "young and fit", 29, "acme:models:x:read")
		f.used("young and fit", 0, 1, "x")
		dead := f.pat("ann", "dead", 40, three...)
		_, err := f.store.RevokePAT(t.Context(), models.Actor{}, dead.UserID, dead.ID)
		require.NoError(t, err)
		old := f.pat("ann", "rotated", 40, three...)
		_, err = f.store.RotatePAT(t.Context(), models.Actor{}, old.UserID, old.ID, models.PAT{
			ID: models.NewID(), KeyID: "k", MAC: make([]byte, 32), CreatedAt: f.clock.Now(), ExpiresAt: f.clock.Now().AddDate(0, 0, 30),
		}, time.Hour)
		require.NoError(t, err)

		since := f.clock.Now().AddDate(0, 0, -30)
		for _, c := range []struct {
			name   string
			search store.AdviceSearch
			want   []string
			totals store.AdviceTotals
		}{
			{
				"everybody's",
				store.AdviceSearch{},
				[]string{"idle:3/0", "partly:2/0", "long ago:1/0", "wide:0/2"},
				store.AdviceTotals{Judged: 5, Young: 3, Narrowable: 4, Unused: 2},
			},
			{
				"young ones, too",
				store.AdviceSearch{Young: true, UserID: f.users["bob"].ID},
				[]string{"young:3/0", "long ago:1/0", "wide:0/2"},
				store.AdviceTotals{Judged: 5, Narrowable: 3, Unused: 2},
			},
			{"of one owner", store.AdviceSearch{Email: "BOB@"}, []string{"long ago:1/0", "wide:0/2"}, store.AdviceTotals{Judged: 3, Young: 2, Narrowable: 2, Unused: 1}},
			{"in a domain", store.AdviceSearch{Domain: "beta"}, []string{"long ago:1/0"}, store.AdviceTotals{Judged: 1, Narrowable: 1, Unused: 1}},
			{"nobody's", store.AdviceSearch{UserID: "\x00"}, nil, store.AdviceTotals{}},
		} {
			c.search.Since = since
			for _, limit := range []int{1, 2, 50} {
				list, totals := f.advised(c.search, limit)
				assert.Equal(t, c.want, list, c.name)
				assert.Equal(t, c.totals, totals, c.name)
			}
		}
		for _, after := range []string{"x", store.CursorOf("advice", "1", "x", "id"), store.CursorOf("pat", "1", "1", "id")} {
			_, _, _, err := f.store.AdvisePATs(t.Context(), f.log, store.AdviceSearch{Since: since}, store.Page{After: after})
			assert.Equal(t, models.CodeInvalid, models.CodeOf(err))
		}
	})
}

// TestManyUsesAreCutAndNoScopeIsForgotten has a token that was used for more than is
// looked at.
func TestManyUsesAreCutAndNoScopeIsForgotten(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		f := newFleet(t, url)
		f.pat("ann", "busy", 40, "acme:models:*:read", "acme:models:*:execute", "acme:datasets:*:read")
		names := make([]string, store.MaxUses+5)
		for i := range names {
			names[i] = fmt.Sprint("m", i)
		}
		f.used("busy", 0, 1, names...)
		f.used("busy", 1, 1, "a")
		id := f.pats["busy"].ID
		used, err := f.log.UsedScopes(t.Context(), []string{id, "nobody's", "\x00"}, f.clock.Now().AddDate(0, 0, -30))
		require.NoError(t, err)
		require.Len(t, used, 1)
		assert.True(t, used[id].More)
		require.Len(t, used[id].Scopes, store.MaxUses+1)
		total := int64(0)
		for _, u := range used[id].Scopes {
			total += u.Count
		}
		assert.Equal(t, int64(len(names)+1), total)
		advice, needed := models.Advise(f.pats["busy"], used[id].Scopes, false, 64)
		assert.Equal(t, []bool{true, true, false}, []bool{advice[0].Keep, advice[1].Keep, advice[2].Keep})
		assert.Len(t, needed, 2)
	})
}
