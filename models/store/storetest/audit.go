package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

var auditCases = []testCase{
	{name: "an event says who did what, when, from where", test: func(e *env) {
		require.NoError(e, e.store.Audit(e.ctx, actor, "session.create", "user:u1", map[string]string{"email": "ann@example.org"}))
		events, next, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{})
		require.NoError(e, err)
		assert.Empty(e, next)
		require.Len(e, events, 1)
		assert.Positive(e, events[0].ID)
		events[0].ID = 0
		assert.Equal(e, store.AuditEvent{
			At: e.clock.Now(), Actor: actor, Action: "session.create", Subject: "user:u1", Detail: map[string]string{"email": "ann@example.org"},
		}, events[0])
	}},
	{name: "what a client chose can always be noted", test: func(e *env) {
		by := models.Actor{Kind: models.ActorUser, IP: "\x00", UserAgent: "\xff" + strings.Repeat("ü", 1000), RequestID: "\x00"}
		require.NoError(e, e.store.Audit(e.ctx, by, "session.refuse", "user:\x00", map[string]string{"email\x00": "\xc3\x28"}))
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{})
		require.NoError(e, err)
		require.Len(e, events, 1)
		assert.Equal(e, "\uFFFD", events[0].Actor.IP)
		assert.True(e, strings.HasPrefix(events[0].Actor.UserAgent, "\uFFFDüü"))
		assert.LessOrEqual(e, len(events[0].Actor.UserAgent), 520)
		assert.Equal(e, map[string]string{"email\uFFFD": "\uFFFD("}, events[0].Detail)
	}},
	{name: "the log is read newest first, in pages and by filter", test: func(e *env) {
		start := e.clock.Now()
		for i := range 6 {
			by := models.Actor{Kind: models.ActorUser, UserID: fmt.Sprintf("u%d", i%2)}
			require.NoError(e, e.store.Audit(e.ctx, by, fmt.Sprintf("a%d", i%3), fmt.Sprintf("s%d", i), nil))
			e.clock.Advance(time.Minute)
		}
		for _, c := range []struct {
			name   string
			filter store.AuditFilter
			want   string
		}{
			{"all", store.AuditFilter{}, "s5 s4 s3 s2 s1 s0"},
			{"action", store.AuditFilter{Action: "a1"}, "s4 s1"},
			{"subject", store.AuditFilter{Subject: "s3"}, "s3"},
			{"user", store.AuditFilter{UserID: "u1"}, "s5 s3 s1"},
			{"since", store.AuditFilter{Since: start.Add(4 * time.Minute)}, "s5 s4"},
			{"until", store.AuditFilter{Until: start.Add(time.Minute)}, "s0"},
			{"between", store.AuditFilter{Since: start.Add(time.Minute), Until: start.Add(3 * time.Minute)}, "s2 s1"},
			{"together", store.AuditFilter{UserID: "u0", Action: "a2"}, "s2"},
			{"nothing", store.AuditFilter{Action: "a' OR '1'='1"}, ""},
			{"unstorable", store.AuditFilter{Subject: "\x00"}, ""},
		} {
			for _, limit := range []int{1, 2, 50} {
				var got []string
				for _, event := range all(e, limit, func(p store.Page) ([]store.AuditEvent, string, error) {
					return e.store.AuditEvents(e.ctx, c.filter, p)
				}) {
					got = append(got, event.Subject)
				}
				assert.Equal(e, c.want, strings.Join(got, " "), c.name)
			}
		}
		badCursors(e, func(p store.Page) error { _, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, p); return err })
	}},
	{name: "a new token's event tells its reach and no secret", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci", func(p *models.PAT) { p.Scopes = scopes("acme:models:*:read", "acme:models:x:execute") })
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "pat.create"}, store.Page{})
		require.NoError(e, err)
		require.Len(e, events, 1)
		assert.Equal(e, map[string]string{
			"user_id": p.UserID, "name": "ci", "expires_at": p.ExpiresAt.Format(time.RFC3339),
			"scopes": "acme:models:*:read acme:models:x:execute",
		}, events[0].Detail)
	}},
}
