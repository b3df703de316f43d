package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

func (e *env) approve(p models.PAT, domain string) models.PAT {
	e.Helper()
	approved, err := e.store.ApprovePAT(e.ctx, actor, domain, p.ID, nil)
	require.NoError(e, err)
	return approved
}

// approvedBy are the domains that approve of a token.
func (e *env) approvedBy(p models.PAT) []string {
	e.Helper()
	domains := []string{}
	for _, a := range e.reread(p.ID).Approvals {
		domains = append(domains, a.Domain)
	}
	return domains
}

func reaching(texts ...string) func(*models.PAT) {
	return func(p *models.PAT) { p.Scopes = scopes(texts...) }
}

var approvalCases = []testCase{
	{name: "limits are kept as they are set", test: func(e *env) {
		assert.Equal(e, models.DomainLimits{}, e.domain("acme").Limits)
		for _, limits := range []models.DomainLimits{
			{MaxLifetime: 90 * time.Second, NoWildcards: true, Approval: true}, {MaxLifetime: time.Hour}, {NoWildcards: true}, {Approval: true}, {},
		} {
			d, err := e.store.UpdateDomain(e.ctx, actor, "acme", store.DomainPatch{Limits: &limits})
			require.NoError(e, err)
			assert.Equal(e, limits, d.Limits)
			read, err := e.store.Domain(e.ctx, "acme")
			require.NoError(e, err)
			assert.Equal(e, d, *read)
		}
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "domain.limits"}, store.Page{Limit: 1})
		require.NoError(e, err)
		assert.Equal(e, map[string]string{"from": "approval", "to": "none"}, events[0].Detail)

		limited, err := e.store.CreateDomain(e.ctx, actor, models.Domain{ID: "beta", Limits: models.DomainLimits{Approval: true}})
		require.NoError(e, err)
		assert.True(e, limited.Limits.Approval)
	}},
	{name: "an approval is of one domain, and names who gave it", test: func(e *env) {
		e.domain("acme")
		e.domain("beta")
		ann := e.user("ann").ID
		p := e.pat(ann, "ci", reaching("acme:models:*:read", "beta:models:*:read"))
		assert.Equal(e, []models.Approval{{Domain: "acme", By: actor.UserID, At: e.clock.Now()}}, e.approve(p, "acme").Approvals)
		e.clock.Advance(time.Minute)
		seq := e.lastChange()
		assert.Equal(e, e.reread(p.ID), e.approve(p, "acme"), "again")
		assert.Empty(e, e.changesAfter(seq))
		e.approve(p, "beta")
		assert.Equal(e, []string{"acme", "beta"}, e.approvedBy(p))
		listed, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: ann}, store.Page{})
		require.NoError(e, err)
		assert.Equal(e, []models.PAT{e.reread(p.ID)}, listed)

		withdrawn, err := e.store.WithdrawApproval(e.ctx, actor, "acme", p.ID)
		require.NoError(e, err)
		assert.Equal(e, e.reread(p.ID), withdrawn)
		assert.Equal(e, []string{"beta"}, e.approvedBy(p))
		require.NoError(e, e.store.RecordUses(e.ctx, []store.Use{{TokenID: p.ID, At: e.clock.Now()}}))
		e.revoke(p)
		require.NoError(e, e.store.DeletePAT(e.ctx, actor, ann, p.ID), "with its approvals")
	}},
	{name: "an approval is of the scopes that were seen", test: func(e *env) {
		e.domain("acme")
		p := e.pat(e.user("ann").ID, "ci", reaching("acme:models:a:read", "acme:models:b:read", "beta:models:*:read"))
		a, b, elsewhere := p.Scopes[0].ID, p.Scopes[1].ID, p.Scopes[2].ID
		for _, seen := range [][]string{{}, {a}, {a, b, elsewhere}, {a, a}} {
			_, err := e.store.ApprovePAT(e.ctx, actor, "acme", p.ID, seen)
			e.fails(models.CodeConflict, err)
		}
		_, err := e.store.ApprovePAT(e.ctx, actor, "acme", p.ID, []string{b, a})
		require.NoError(e, err)
	}},
	{name: "only what is alive and reaches the domain is approved", test: func(e *env) {
		e.domain("acme")
		ann := e.user("ann").ID
		elsewhere := e.pat(ann, "elsewhere", reaching("beta:models:*:read"))
		anywhere := e.pat(ann, "anywhere", reaching("*:models:*:read"))
		dead := e.revoke(e.pat(ann, "dead"))
		late := e.pat(ann, "late", lives(2*time.Second))
		e.clock.Advance(2 * time.Second)
		for id, code := range map[string]models.Code{
			elsewhere.ID: models.CodeNotFound, anywhere.ID: models.CodeNotFound, "nothing": models.CodeNotFound,
			dead.ID: models.CodeConflict, late.ID: models.CodeConflict,
		} {
			_, err := e.store.ApprovePAT(e.ctx, actor, "acme", id, nil)
			e.fails(code, err)
		}
		_, err := e.store.ApprovePAT(e.ctx, actor, "nowhere", elsewhere.ID, nil)
		e.fails(models.CodeNotFound, err)
		e.member(ann, "acme", "viewer")
		e.approve(anywhere, "acme")
	}},
	{name: "widening ends the approvals of the domains that it is about", test: func(e *env) {
		e.domain("acme")
		e.domain("beta")
		p := e.pat(e.user("ann").ID, "ci", reaching("acme:models:*:read", "beta:models:*:read"))
		both := func() { e.approve(p, "acme"); e.approve(p, "beta") }
		both()
		for _, c := range []struct {
			scope string
			left  []string
			lost  string
		}{
			{"gamma:models:*:read", []string{"acme", "beta"}, ""},
			{"acme:models:x:write", []string{"beta"}, "acme"},
			{"*:models:x:write", []string{}, "acme beta"},
		} {
			widened, err := e.store.AddScope(e.ctx, actor, p.UserID, p.ID, scopes(c.scope)[0])
			require.NoError(e, err)
			assert.Equal(e, e.reread(p.ID), widened)
			assert.Equal(e, c.left, e.approvedBy(p), c.scope)
			events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "pat.add_scope"}, store.Page{Limit: 1})
			require.NoError(e, err)
			assert.Equal(e, c.lost, events[0].Detail["approvals_lost"])
			both()
		}
		_, err := e.store.RemoveScope(e.ctx, actor, p.UserID, p.ID, p.Scopes[0].ID)
		require.NoError(e, err)
		assert.Equal(e, []string{"acme", "beta"}, e.approvedBy(p), "what is narrower was approved")
		name := "renamed"
		_, err = e.store.UpdatePAT(e.ctx, actor, p.UserID, p.ID, store.PATPatch{Name: &name})
		require.NoError(e, err)
		assert.Equal(e, []string{"acme", "beta"}, e.approvedBy(p))
	}},
	{name: "approvals go over to the successor, and not back", test: func(e *env) {
		e.domain("acme")
		p := e.pat(e.user("ann").ID, "ci")
		given := e.approve(p, "acme").Approvals
		e.clock.Advance(time.Minute)
		next := e.rotate(p, time.Minute)
		assert.Equal(e, given, next.Approvals)
		assert.Equal(e, given, e.reread(p.ID).Approvals, "for its grace")
		_, err := e.store.WithdrawApproval(e.ctx, actor, "acme", next.ID)
		require.NoError(e, err)
		assert.Empty(e, e.approvedBy(e.rotate(next, 0)))
		assert.Equal(e, []string{"acme"}, e.approvedBy(p))
	}},
	{name: "a domain's admins see what names it, and what its members let reach anywhere", test: func(e *env) {
		e.domain("acme")
		e.domain("beta")
		ann, bob, root := e.user("ann").ID, e.user("bob").ID, e.user("root", admin).ID
		e.member(bob, "acme", "viewer")
		e.pat(ann, "named", reaching("beta:models:*:read", "acme:models:*:read"))
		e.pat(ann, "elsewhere", reaching("beta:models:*:read"))
		e.pat(ann, "outsider", reaching("*:models:*:read"))
		wild := e.pat(bob, "member", reaching("*:models:*:read"))
		e.pat(root, "root", reaching("*:models:*:read"))
		e.approve(wild, "acme")
		names := func(f store.PATSearch) []string {
			f.Within = "acme"
			found := all(e, 2, func(p store.Page) ([]store.OwnedPAT, string, error) { return e.store.SearchPATs(e.ctx, f, p) })
			names := []string{}
			for _, o := range found {
				names = append(names, o.Name)
			}
			return names
		}
		yes, no := true, false
		assert.ElementsMatch(e, []string{"named", "member", "root"}, names(store.PATSearch{}))
		assert.ElementsMatch(e, []string{"member"}, names(store.PATSearch{Approved: &yes}))
		assert.ElementsMatch(e, []string{"named", "root"}, names(store.PATSearch{Approved: &no}))
		assert.ElementsMatch(e, []string{"named"}, names(store.PATSearch{Email: "ann@"}))
		assert.ElementsMatch(e, []string{"member"}, names(store.PATSearch{ID: wild.ID}))
		require.NoError(e, e.store.RemoveMember(e.ctx, actor, bob, "acme"))
		assert.ElementsMatch(e, []string{"named", "root"}, names(store.PATSearch{}))
	}},
	{name: "a revoked token says who ended it and why", test: func(e *env) {
		e.domain("acme")
		ann := e.user("ann").ID
		self := models.Actor{Kind: models.ActorUser, UserID: ann}
		for name, c := range map[string]struct {
			by     models.Actor
			revoke func(by models.Actor, id string) (models.PAT, error)
			want   models.Revocation
		}{
			"the owner": {self, func(by models.Actor, id string) (models.PAT, error) {
				return e.store.RevokePAT(e.ctx, by, ann, id)
			}, models.Revocation{By: models.RevokerOwner}},
			"the owner, all at once": {self, func(by models.Actor, id string) (models.PAT, error) {
				_, err := e.store.RevokeAll(e.ctx, by, ann)
				return e.reread(id), err
			}, models.Revocation{By: models.RevokerOwner}},
			"the token": {models.Actor{Kind: models.ActorToken, UserID: ann}, func(by models.Actor, id string) (models.PAT, error) {
				return e.store.RevokePAT(e.ctx, by, ann, id)
			}, models.Revocation{By: models.RevokerToken}},
			"a platform admin": {actor, func(by models.Actor, id string) (models.PAT, error) {
				return e.store.RevokeFor(e.ctx, by, "", id, "it was\nin a log")
			}, models.Revocation{By: models.RevokerPlatformAdmin, Reason: "it was\nin a log"}},
			"an operator": {models.Actor{Kind: models.ActorOperator}, func(by models.Actor, id string) (models.PAT, error) {
				return e.store.RevokeFor(e.ctx, by, "", id, "drill")
			}, models.Revocation{By: models.RevokerOperator, Reason: "drill"}},
			"a domain's admin": {actor, func(by models.Actor, id string) (models.PAT, error) {
				return e.store.RevokeWithin(e.ctx, by, "acme", id, "left the team")
			}, models.Revocation{By: models.RevokerDomainAdmin, Domain: "acme", Reason: "left the team"}},
		} {
			old := e.pat(ann, name)
			p := e.rotate(old, time.Minute)
			revoked, err := c.revoke(c.by, p.ID)
			require.NoError(e, err, name)
			assert.Equal(e, c.want, revoked.Revoked, name)
			assert.Equal(e, c.want, e.reread(old.ID).Revoked, "%s: its predecessor, too", name)
			again, err := e.store.RevokeFor(e.ctx, actor, "", p.ID, "another reason")
			require.NoError(e, err)
			assert.Equal(e, revoked, again, "%s: the first reason stays", name)
		}
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "pat.revoke"}, store.Page{Limit: 200})
		require.NoError(e, err)
		assert.Contains(e, events[len(events)-1].Detail, "by")
		elsewhere := e.pat(ann, "elsewhere", reaching("beta:models:*:read"))
		for _, domain := range []string{"acme", "beta"} { // of which the second does not exist
			_, err := e.store.RevokeWithin(e.ctx, actor, domain, elsewhere.ID, "x")
			e.fails(models.CodeNotFound, err)
		}
		assert.Nil(e, e.reread(elsewhere.ID).RevokedAt)
		replaced := e.pat(ann, "replaced")
		e.rotate(replaced, 0)
		assert.Equal(e, models.Revocation{}, e.reread(replaced.ID).Revoked)
	}},
}
