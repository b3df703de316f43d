package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

var allowedIPCases = []testCase{
	{name: "a token is limited to addresses, and its successor is", config: limits(models.Limits{MaxAllowedIPs: 3}), test: func(e *env) {
		e.domain("acme")
		p := e.pat(e.user("ann").ID, "ci", func(p *models.PAT) { p.AllowedIPs = []string{"203.0.113.0/24", "2001:db8::/32"} })
		assert.Equal(e, []string{"203.0.113.0/24", "2001:db8::/32"}, e.reread(p.ID).AllowedIPs)
		assert.Equal(e, p.AllowedIPs, e.rotate(p, time.Minute).AllowedIPs)
		assert.Empty(e, e.pat(p.UserID, "other").AllowedIPs)
		list, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: p.UserID, Name: "other"}, store.Page{})
		require.NoError(e, err)
		assert.Nil(e, list[0].AllowedIPs)
	}},
	{name: "the addresses of a token change, and more of them end approvals", config: limits(models.Limits{MaxAllowedIPs: 3}), test: func(e *env) {
		e.domain("acme")
		p := e.pat(e.user("ann").ID, "ci")
		set := func(noWider bool, to ...string) (models.PAT, error) {
			e.clock.Advance(time.Second)
			return e.store.UpdatePAT(e.ctx, actor, p.UserID, p.ID, store.PATPatch{AllowedIPs: &to, NoWider: noWider})
		}
		e.approve(p, "acme")
		for _, c := range []struct {
			to    []string
			wider bool
		}{
			{[]string{"203.0.113.0/24", "198.51.100.7"}, false},
			{[]string{"203.0.113.7"}, false},
			{[]string{"203.0.113.7"}, false}, // nothing changes
			{[]string{"203.0.113.0/25"}, true},
			{nil, true},
		} {
			e.approve(p, "acme")
			before := e.reread(p.ID)
			changed, err := set(true, c.to...)
			if c.wider {
				assert.Equal(e, models.CodeReauthentication, models.CodeOf(err))
				assert.Equal(e, before, e.reread(p.ID), "nothing changed")
				changed, err = set(false, c.to...)
			}
			require.NoError(e, err)
			assert.Equal(e, e.reread(p.ID), changed)
			assert.Equal(e, c.to, changed.AllowedIPs)
			assert.Equal(e, !c.wider, len(e.approvedBy(p)) > 0, c.to)
			events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "pat.allowed_ips"}, store.Page{Limit: 1})
			require.NoError(e, err)
			assert.Equal(e, map[bool]string{true: "acme"}[c.wider], events[0].Detail["approvals_lost"])
		}
		_, err := set(false, "::1", "::2", "::3", "::4")
		assert.Equal(e, models.CodeLimitReached, models.CodeOf(err))
		_, err = set(false, "::1")
		require.NoError(e, err)
		e.rotate(p, time.Hour)
		_, err = set(false, "::/0")
		assert.Equal(e, models.CodeConflict, models.CodeOf(err), "the old one during its grace")
		_, err = e.store.RevokePAT(e.ctx, actor, p.UserID, p.ID)
		require.NoError(e, err)
		_, err = set(false, "::2")
		assert.Equal(e, models.CodeConflict, models.CodeOf(err), "a dead one")
	}},
	{name: "a restored token works from nowhere from where it did not", test: func(e *env) {
		at, ann := e.clock.Now(), e.user("ann").ID
		var stones []models.Tombstone
		cases := []struct {
			name         string
			backup, want []string
			lost         []string // what they were changed to since
			dead         bool
		}{
			{"limited", nil, []string{"203.0.113.0/24"}, []string{"203.0.113.0/24"}, false},
			{"narrowed", []string{"203.0.113.0/24", "::1"}, []string{"203.0.113.7"}, []string{"203.0.113.7"}, false},
			{"widened", []string{"203.0.113.7"}, []string{"203.0.113.7"}, []string{"203.0.113.0/24"}, false},
			{"lifted", []string{"203.0.113.7"}, []string{"203.0.113.7"}, []string{""}, false},
			{"narrowed and lifted", []string{"203.0.113.0/24"}, []string{"203.0.113.0/24"}, []string{"203.0.113.7", ""}, false},
			{"moved", []string{"203.0.113.7"}, []string{"203.0.113.7"}, []string{"198.51.100.7"}, true},
		}
		pats := make([]models.PAT, len(cases))
		for i, c := range cases {
			pats[i] = e.pat(ann, c.name, func(p *models.PAT) { p.AllowedIPs = c.backup })
			for n, to := range c.lost {
				stones = append(stones, models.Tombstone{
					At: at.Add(time.Duration(n+1) * time.Second), Action: "pat.allowed_ips", Subject: "pat:" + pats[i].ID, Detail: map[string]string{"to": to},
				})
			}
		}
		e.clock.Advance(time.Minute)
		done, err := e.store.Reapply(e.ctx, actor, stones)
		require.NoError(e, err)
		assert.Len(e, done, 3, "%q", done)
		for i, c := range cases {
			p := e.reread(pats[i].ID)
			assert.Equal(e, c.want, p.AllowedIPs, c.name)
			assert.Equal(e, c.dead, p.RevokedAt != nil, c.name)
		}
	}},
}
