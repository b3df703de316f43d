package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/authztest"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
	"patrol/server/authz"
)

// A decision of which nothing is cached waits for the database twice: for the token,
// and for its owner, the domain and the membership at once.
func TestUncachedDecisionTakesTwoRoundTrips(t *testing.T) {
	cluster := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, cluster.Addr())
	s := storetest.New(t, cluster.URLAt(proxy.Addr()))
	ctx := context.Background()
	ann, err := s.CreateUser(ctx, models.Actor{}, models.User{ID: "u1", Email: "ann@example.org"})
	require.NoError(t, err)
	_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme", Status: models.DomainEnabled})
	require.NoError(t, err)
	_, err = s.SetMember(ctx, models.Actor{}, models.Membership{UserID: ann.ID, Domain: "acme", Role: "member"})
	require.NoError(t, err)
	for name, cached := range map[string]bool{"nothing is kept": false, "what is read is kept": true} {
		t.Run(name, func(t *testing.T) {
			w := authztest.New(t, func(c *authz.Config) { c.Facts = s.Facts() }) //nolint:contextcheck // it has the test's; and a feed that says nothing
			if cached {
				w.Start(t) //nolint:contextcheck // it ends with the test
			}
			mint := func() string {
				id, text := w.Mint(t, ann.ID, "acme:models:*:read")
				p, err := w.PAT(ctx, id)
				require.NoError(t, err)
				p.Name = id
				_, err = s.CreatePAT(ctx, models.Actor{}, *p)
				require.NoError(t, err)
				return text
			}
			ask := func(text, domain string) models.Decision {
				return w.Authorize(ctx, authz.Call{Token: text, Surface: "authorize", Request: models.Request{Domain: domain, EntityType: "models", Entity: "m", Operation: "read"}})
			}
			first, second := mint(), mint()
			for range 10 { // each connection knows its statements
				require.True(t, ask(first, "acme").Allowed)
				w.Apply([]models.Change{{Kind: "all"}})
				w.Apply([]models.Change{{Kind: models.ChangeUser, Key: ann.ID}, {Kind: models.ChangeDomain, Key: "acme"}})
			}
			before := proxy.Trips()
			require.True(t, ask(second, "acme").Allowed)
			assert.LessOrEqual(t, proxy.Trips()-before, int64(2), "nothing is cached")
			before = proxy.Trips()
			assert.False(t, ask(second, "elsewhere").Allowed)
			assert.LessOrEqual(t, proxy.Trips()-before, int64(2), "a domain that is not there")
			if cached {
				before = proxy.Trips()
				require.True(t, ask(second, "acme").Allowed)
				assert.Equal(t, before, proxy.Trips(), "all is cached")
			}
		})
	}
}

// Reading at once and reading one by one give the same result.
func TestStanding(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, u string) {
		s := storetest.New(t, u)
		ctx := t.Context()
		ann, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org", Name: "Ann", Admin: true, PasswordHash: "h"})
		require.NoError(t, err)
		_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme", Name: "Acme"})
		require.NoError(t, err)
		_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "other"})
		require.NoError(t, err)
		_, err = s.SetMember(ctx, models.Actor{}, models.Membership{UserID: ann.ID, Domain: "acme", Role: "member"})
		require.NoError(t, err)
		limits := models.DomainLimits{MaxLifetime: time.Hour, Approval: true}
		_, err = s.UpdateDomain(ctx, models.Actor{}, "acme", store.DomainPatch{Limits: &limits})
		require.NoError(t, err)
		f := s.Facts()
		for _, user := range []string{ann.ID, "nobody", "", "\x00"} {
			for _, domain := range []string{"acme", "other", "nowhere", "", "\xff"} {
				st, err := f.Standing(ctx, user, domain)
				require.NoError(t, err)
				u, err := f.User(ctx, user)
				require.NoError(t, err)
				d, err := f.Domain(ctx, domain)
				require.NoError(t, err)
				m, err := f.Membership(ctx, user, domain)
				require.NoError(t, err)
				assert.Equal(t, models.Standing{User: u, Domain: d, Membership: m}, st, "%q in %q", user, domain)
			}
		}
	})
}

// The domains of tokens by which lists go are those of their scopes, whatever happens
// to them.
func TestDomainsOfTokensFollowTheirScopes(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, u string) {
		clock := storetest.NewClock()
		s := storetest.New(t, u, func(c *store.Config) { c.Clock = clock.Now })
		ctx, db := t.Context(), raw(t, u)
		same := func(when string) {
			t.Helper()
			var differ int
			require.NoError(t, db.QueryRowContext(ctx, `SELECT COUNT(*) FROM (
				SELECT * FROM (SELECT DISTINCT s.domain, p.created_at, p.id FROM scopes s JOIN pats p ON p.id = s.pat_id EXCEPT SELECT domain, created_at, pat_id FROM domain_pats) AS lacking
				UNION ALL SELECT * FROM (SELECT domain, created_at, pat_id FROM domain_pats EXCEPT SELECT s.domain, p.created_at, p.id FROM scopes s JOIN pats p ON p.id = s.pat_id) AS left_over) AS differ`).Scan(&differ))
			assert.Zero(t, differ, when)
		}
		ann, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
		require.NoError(t, err)
		p := benchPAT(ann.ID, "one")
		p.CreatedAt, p.ExpiresAt = clock.Now(), clock.Now().Add(time.Hour)
		for _, domain := range []string{"a", "b", models.Any} {
			for _, entity := range []string{"m", "n"} {
				p.Scopes = append(p.Scopes, models.Scope{ID: models.NewID(), Domain: domain, EntityType: "models", Entity: entity, Operation: "read"})
			}
		}
		p, err = s.CreatePAT(ctx, models.Actor{}, p)
		require.NoError(t, err)
		same("made")
		for len(p.Scopes) > 1 {
			p, err = s.RemoveScope(ctx, models.Actor{}, ann.ID, p.ID, p.Scopes[0].ID)
			require.NoError(t, err)
			same("narrowed")
		}
		_, err = s.RevokePAT(ctx, models.Actor{}, ann.ID, p.ID)
		require.NoError(t, err)
		require.NoError(t, s.DeletePAT(ctx, models.Actor{}, ann.ID, p.ID))
		same("deleted")
		var left int
		require.NoError(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM domain_pats").Scan(&left))
		assert.Zero(t, left)
	})
}
