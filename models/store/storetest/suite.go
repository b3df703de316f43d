package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// Opener opens one more Store on the database of a test and closes it when the
// test ends.
type Opener func(t testing.TB, edit ...func(*store.Config)) *store.Store

// Run runs the suite. For every case, fresh makes a database that has the schema
// and nothing else.
func Run(t *testing.T, fresh func(t testing.TB) Opener) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"people", peopleCases},
		{"tokens", tokenCases},
		{"purge", purgeCases},
		{"keys", keyCases},
		{"restore", restoreCases},
		{"rotation", rotationCases},
		{"approvals", approvalCases},
		{"allowed addresses", allowedIPCases},
		{"writes", writeCases()},
		{"feed", feedCases},
		{"audit", auditCases},
		{"policy", policyCases},
		{"shadow", shadowCases},
		{"sessions", sessionCases},
		{"codes", codeCases},
		{"emails", emailCases},
		{"logout", logoutCases},
		{"retention", retentionCases},
		{"identities", identityCases},
		{"search", searchCases},
		{"concurrency", concurrencyCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.test(newEnv(t, fresh(t), c.config))
				})
			}
		})
	}
}

type testCase struct {
	name   string
	config func(*store.Config) // nil: as it comes
	test   func(*env)
}

// env is the environment of a case: a store on a fresh database, under a clock that
// stands still unless the case moves it.
type env struct {
	*testing.T
	ctx    context.Context
	store  *store.Store
	clock  *Clock
	config func(*store.Config)
	open   Opener
	other  *store.Store
}

// second is the other store of cases with two.
func (e *env) second() *store.Store {
	e.Helper()
	if e.other == nil {
		e.other = e.another()
	}
	return e.other
}

func newEnv(t *testing.T, open Opener, config func(*store.Config)) *env {
	e := &env{T: t, ctx: context.Background(), clock: NewClock(), open: open, config: config}
	e.store = e.another()
	return e
}

// another opens another store on the same database, as another process would.
func (e *env) another() *store.Store {
	e.Helper()
	return e.open(e.T, func(c *store.Config) {
		c.Clock = e.clock.Now
		if e.config != nil {
			e.config(c)
		}
	})
}

var actor = models.Actor{
	Kind: models.ActorUser, UserID: "actor", TokenID: "token", IP: "192.0.2.7", UserAgent: "test/1", RequestID: "req-1",
}

func (e *env) user(name string, edit ...func(*models.User)) models.User {
	e.Helper()
	u := models.User{Email: name + "@example.org", Name: name}
	for _, f := range edit {
		f(&u)
	}
	u, err := e.store.CreateUser(e.ctx, actor, u)
	require.NoError(e, err)
	return u
}

func admin(u *models.User) { u.Admin = true }

func (e *env) domain(id string) models.Domain {
	e.Helper()
	d, err := e.store.CreateDomain(e.ctx, actor, models.Domain{ID: id, Name: strings.ToUpper(id)})
	require.NoError(e, err)
	return d
}

func (e *env) member(userID, domain, role string) {
	e.Helper()
	_, err := e.store.SetMember(e.ctx, actor, models.Membership{UserID: userID, Domain: domain, Role: role})
	require.NoError(e, err)
}

// newPAT is a token as a caller of CreatePAT fills it, good for an hour.
func (e *env) newPAT(userID, name string, edit ...func(*models.PAT)) models.PAT {
	id := models.NewID()
	p := models.PAT{
		ID: id, UserID: userID, Name: name, KeyID: "k1", MAC: []byte("mac of " + id),
		CreatedAt: e.clock.Now(), ExpiresAt: e.clock.Now().Add(time.Hour).Truncate(time.Second), Scopes: scopes("acme:models:*:read"),
	}
	for _, f := range edit {
		f(&p)
	}
	return p
}

func (e *env) pat(userID, name string, edit ...func(*models.PAT)) models.PAT {
	e.Helper()
	p, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(userID, name, edit...))
	require.NoError(e, err)
	return p
}

func lives(d time.Duration) func(*models.PAT) {
	return func(p *models.PAT) { p.ExpiresAt = p.CreatedAt.Add(d).Truncate(time.Second) }
}

func scopes(texts ...string) []models.Scope {
	list := make([]models.Scope, len(texts))
	for i, text := range texts {
		s, err := models.ParseScope(text)
		if err != nil {
			panic(err)
		}
		list[i] = s
	}
	return list
}

func scopeTexts(p models.PAT) []string {
	texts := make([]string, len(p.Scopes))
	for i, s := range p.Scopes {
		texts[i] = s.String()
	}
	return texts
}

func (e *env) reread(id string) models.PAT {
	e.Helper()
	p, err := e.store.PAT(e.ctx, id)
	require.NoError(e, err)
	require.NotNil(e, p, "token %s", id)
	return *p
}

// live returns the ids of the user's live tokens.
func (e *env) live(userID string) []string {
	e.Helper()
	pats, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: userID, Status: models.StatusActive}, store.Page{Limit: 1000})
	require.NoError(e, err)
	ids := []string{}
	for _, p := range pats {
		ids = append(ids, p.ID)
	}
	return ids
}

// fails checks the code of an error.
func (e *env) fails(code models.Code, err error) {
	e.Helper()
	require.Error(e, err)
	require.Equal(e, code, models.CodeOf(err), "of %v", err)
}

// changesAfter returns the feed after a change as text: kind key key2.
func (e *env) changesAfter(p models.FeedPosition) []string {
	e.Helper()
	page, err := e.store.Changes(e.ctx, p, 1000)
	require.NoError(e, err)
	require.True(e, page.Complete)
	texts := []string{}
	for _, c := range page.Changes {
		texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Kind, c.Key, c.Key2)))
	}
	return texts
}

// fromStart is before every change.
var fromStart models.FeedPosition

func (e *env) lastChange() models.FeedPosition {
	e.Helper()
	p, err := e.store.FeedEnd(e.ctx)
	require.NoError(e, err)
	return p
}

// auditAfter returns the audit log after an event, the oldest first, as text:
// action subject.
func (e *env) auditAfter(id int64) []string {
	e.Helper()
	events, next, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{Limit: 1000})
	require.NoError(e, err)
	require.Empty(e, next)
	texts := []string{}
	for _, event := range slices.Backward(events) {
		if event.ID > id {
			texts = append(texts, event.Action+" "+event.Subject)
		}
	}
	return texts
}

func (e *env) lastEvent() int64 {
	e.Helper()
	events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{Limit: 1})
	require.NoError(e, err)
	if len(events) == 0 {
		return 0
	}
	return events[0].ID
}

// all walks a list page by page and returns its items.
func all[T any](e *env, limit int, list func(store.Page) ([]T, string, error)) []T {
	e.Helper()
	var items []T
	page := store.Page{Limit: limit}
	for {
		some, next, err := list(page)
		require.NoError(e, err)
		require.LessOrEqual(e, len(some), limit)
		items = append(items, some...)
		if next == "" {
			return items
		}
		require.Len(e, some, limit, "only the last page is shorter")
		page.After = next
	}
}

// badCursors are no cursors of any list but, perhaps, one.
func badCursors(e *env, list func(store.Page) error) {
	e.Helper()
	for _, cursor := range []string{"x", "!", "dXNlcg", "bm9wZR9hHw", strings.Repeat("A", 5000)} {
		err := list(store.Page{After: cursor})
		var invalid *models.Error
		require.ErrorAs(e, err, &invalid, "cursor %q", cursor)
		assert.Equal(e, models.CodeInvalid, invalid.Code)
		assert.Equal(e, "after", invalid.Fields[0].Field)
	}
}
