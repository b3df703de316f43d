package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// found returns the names of the tokens that a search finds, in order, read in
// pages of one size.
func (e *env) found(search store.PATSearch, limit int) []string {
	e.Helper()
	names := []string{}
	for _, p := range all(e, limit, func(p store.Page) ([]store.OwnedPAT, string, error) { return e.store.SearchPATs(e.ctx, search, p) }) {
		names = append(names, p.Name)
	}
	return names
}

// reaches sets the scopes of a token.
func reaches(texts ...string) func(*models.PAT) {
	return func(p *models.PAT) { p.Scopes = scopes(texts...) }
}

var searchCases = []testCase{
	{name: "ids have names", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		ci, gone := e.pat(ann.ID, "ci"), e.pat(bob.ID, "gone")
		e.revoke(gone)
		require.NoError(e, e.store.DeletePAT(e.ctx, actor, bob.ID, gone.ID))
		emails, names, err := e.store.Names(e.ctx, []string{bob.ID, ann.ID, "", ann.ID, "nobody", "\x00"}, []string{ci.ID, gone.ID})
		require.NoError(e, err)
		assert.Equal(e, map[string]string{ann.ID: ann.Email, bob.ID: bob.Email}, emails)
		assert.Equal(e, map[string]string{ci.ID: "ci"}, names)
		many := []string{ann.ID}
		for i := range 1200 {
			many = append(many, fmt.Sprint(i))
		}
		emails, names, err = e.store.Names(e.ctx, many, nil)
		require.NoError(e, err)
		assert.Equal(e, map[string]string{ann.ID: ann.Email}, emails)
		assert.Empty(e, names)
	}},
	{name: "a search finds what all its conditions fit", config: limits(models.Limits{MaxLifetime: 48 * time.Hour}), test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob_100%")
		begin := e.clock.Now()
		e.pat(ann.ID, "oldest", lives(1000*time.Hour), reaches("acme:models:*:read")) // by now past the longest life
		e.clock.Advance(47 * time.Hour)
		e.pat(ann.ID, "CI_100%", lives(2*time.Hour), reaches("beta:models:*:read", "acme:datasets:x:write"))
		e.clock.Advance(time.Second)
		e.revoke(e.pat(ann.ID, "revoked", reaches("*:models:*:read")))
		e.clock.Advance(time.Second)
		e.pat(bob.ID, "of bob", lives(40*time.Hour), reaches("beta:models:*:read"))
		e.clock.Advance(time.Second)
		used := e.pat(bob.ID, "ci used", lives(20*time.Hour), reaches("*:models:*:read"))
		e.clock.Advance(time.Hour)
		require.NoError(e, e.store.RecordUses(e.ctx, []store.Use{{TokenID: used.ID, At: e.clock.Now()}}))
		now := e.clock.Now()

		everything := []string{"ci used", "of bob", "revoked", "CI_100%", "oldest"}
		for _, c := range []struct {
			name   string
			search store.PATSearch
			want   []string
		}{
			{"everything, the newest first", store.PATSearch{}, everything},
			{"of one user", store.PATSearch{UserID: ann.ID}, everything[2:]},
			{"part of an address, in any case", store.PATSearch{Email: "NN@EXAMPLE"}, everything[2:]},
			{"no pattern in an address", store.PATSearch{Email: "b_b"}, nil},
			{"signs of patterns in an address", store.PATSearch{Email: "_100%@"}, everything[:2]},
			{"part of a name, in any case", store.PATSearch{Name: "cI"}, []string{"ci used", "CI_100%"}},
			{"no pattern in a name", store.PATSearch{Name: "c%1"}, nil},
			{"signs of patterns in a name", store.PATSearch{Name: "_100%"}, []string{"CI_100%"}},
			{"a backslash in a name", store.PATSearch{Name: `\`}, nil},
			{"alive", store.PATSearch{Status: models.StatusActive}, []string{"ci used", "of bob", "CI_100%"}},
			{"expired, by the longest life too", store.PATSearch{Status: models.StatusExpired}, []string{"oldest"}},
			{"revoked", store.PATSearch{Status: models.StatusRevoked}, []string{"revoked"}},
			{"reaching a domain, by name or by any", store.PATSearch{Domain: "acme"}, []string{"ci used", "revoked", "CI_100%", "oldest"}},
			{"reaching no such domain but by any", store.PATSearch{Domain: "gamma"}, []string{"ci used", "revoked"}},
			{"ending soon, and alive", store.PATSearch{ExpiresBefore: now.Add(30 * time.Hour)}, []string{"ci used", "CI_100%"}},
			{"not used since", store.PATSearch{UnusedSince: now.Add(-time.Minute)}, []string{"of bob", "revoked", "CI_100%", "oldest"}},
			{"made since", store.PATSearch{UnusedSince: begin.Add(time.Hour)}, []string{"oldest"}},
			{"by expiry, the living first", store.PATSearch{ByExpiry: true}, []string{"CI_100%", "ci used", "of bob", "revoked", "oldest"}},
			{"all at once", store.PATSearch{UserID: bob.ID, Email: "bob", Name: "ci", Status: models.StatusActive, Domain: "acme", ByExpiry: true}, []string{"ci used"}},
		} {
			want := append([]string{}, c.want...)
			for _, limit := range []int{1, 2, 50} {
				assert.Equal(e, want, e.found(c.search, limit), "%s, in pages of %d", c.name, limit)
			}
		}

		one, _, err := e.store.SearchPATs(e.ctx, store.PATSearch{Name: "used"}, store.Page{})
		require.NoError(e, err)
		assert.Equal(e, []store.OwnedPAT{{PAT: e.reread(used.ID), Email: bob.Email}}, one, "the whole token")
		for _, key := range odd[2:4] {
			for _, search := range []store.PATSearch{{UserID: key}, {Email: key}, {Name: key}, {Domain: key}} {
				assert.Empty(e, e.found(search, 50))
			}
		}
		for _, byExpiry := range []bool{false, true} {
			search := store.PATSearch{ByExpiry: byExpiry}
			badCursors(e, func(p store.Page) error { _, _, err := e.store.SearchPATs(e.ctx, search, p); return err })
			_, next, err := e.store.SearchPATs(e.ctx, search, store.Page{Limit: 1})
			require.NoError(e, err)
			search.ByExpiry = !byExpiry
			_, _, err = e.store.SearchPATs(e.ctx, search, store.Page{After: next})
			e.fails(models.CodeInvalid, err)
		}
	}},
	{name: "tokens of one moment come in an order all the same", test: func(e *env) {
		ann := e.user("ann").ID
		for i := range 5 {
			e.pat(ann, fmt.Sprint(i))
		}
		for _, byExpiry := range []bool{false, true} {
			search := store.PATSearch{ByExpiry: byExpiry}
			whole := e.found(search, 50)
			assert.Len(e, whole, 5)
			assert.Equal(e, whole, e.found(search, 2))
		}
	}},
	{name: "a family is what led to a token and what it led to", test: func(e *env) {
		ann := e.user("ann").ID
		chain := []models.PAT{e.pat(ann, "ci")}
		for range 4 {
			e.clock.Advance(time.Second)
			chain = append(chain, e.rotate(chain[len(chain)-1], 0))
		}
		e.pat(ann, "stranger")
		family := func(userID, id string) []string {
			e.Helper()
			got, err := e.store.PATFamily(e.ctx, userID, id)
			require.NoError(e, err)
			ids := []string{}
			for _, p := range got {
				ids = append(ids, p.ID)
			}
			return ids
		}
		assert.Equal(e, []string{chain[1].ID, chain[0].ID, chain[3].ID, chain[4].ID}, family(ann, chain[2].ID))
		assert.Equal(e, []string{chain[1].ID, chain[2].ID, chain[3].ID, chain[4].ID}, family(ann, chain[0].ID))
		members, err := e.store.PATFamily(e.ctx, ann, chain[4].ID)
		require.NoError(e, err)
		require.Len(e, members, 4)
		assert.Equal(e, e.reread(chain[3].ID), members[0], "the whole token")

		require.NoError(e, e.store.DeletePAT(e.ctx, actor, ann, chain[1].ID))
		assert.Equal(e, []string{chain[0].ID, chain[3].ID, chain[4].ID}, family(ann, chain[2].ID), "the chain closes where one was deleted")
		assert.Empty(e, family(e.user("bob").ID, chain[2].ID), "nobody else's")
		for _, key := range odd {
			assert.Empty(e, family(ann, key))
			assert.Empty(e, family(key, chain[2].ID))
		}
	}},
}
