package storetest

import (
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// world holds the records that the table of writes works on.
type world struct {
	ann, root models.User
	pat, old  models.PAT // old was rotated to pat, with a grace
	wide      models.PAT // has two scopes
	dead      models.PAT
	code      string // hash of ann's reset code
	// sessionCode is the hash of a code that begins a session of ann's.
	sessionCode string
}

func (e *env) world() world {
	e.Helper()
	w := world{ann: e.user("ann"), root: e.user("root", admin, withPassword), code: "hash of a reset code", sessionCode: "hash of a session's code"}
	e.resetCode(w.ann.ID, w.code, time.Hour)
	require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, w.ann.ID, w.sessionCode, e.clock.Now(), e.clock.Now().Add(time.Hour), store.AtProvider{}))
	require.NoError(e, e.store.LinkIdentity(e.ctx, actor, w.root.ID, issuer, "root"))
	e.domain("acme")
	e.member(w.ann.ID, "acme", "viewer")
	w.dead = e.revoke(e.pat(w.ann.ID, "dead"))
	w.old = e.pat(w.ann.ID, "ci")
	w.pat = e.rotate(w.old, time.Minute)
	w.wide = e.pat(w.ann.ID, "wide", func(p *models.PAT) { p.Scopes = scopes("a:models:*:read", "b:models:*:read") })
	return w
}

// writes are all writing methods, with what they append to the feed and to the
// audit log. {new} stands for the id of a new record.
var writes = []struct {
	name    string
	do      func(e *env, w world) (id string, err error)
	changes func(w world) []string
	audit   func(w world) []string
}{
	{
		"create user",
		func(e *env, _ world) (string, error) {
			u, err := e.store.CreateUser(e.ctx, actor, models.User{Email: "new@example.org"})
			return u.ID, err
		},
		func(world) []string { return []string{"user {new}"} },
		func(world) []string { return []string{"user.create user:{new}"} },
	},
	{
		"rename, promote and disable a user, with a new password",
		func(e *env, w world) (string, error) {
			name, yes, hash := "Ann", true, "hash"
			_, err := e.store.UpdateUser(e.ctx, actor, w.ann.ID, store.UserPatch{Name: &name, Admin: &yes, Disabled: &yes, PasswordHash: &hash})
			return "", err
		},
		func(w world) []string { return []string{"user " + w.ann.ID} },
		func(w world) []string {
			on := " user:" + w.ann.ID
			return []string{"user.rename" + on, "user.promote" + on, "user.disable" + on, "user.password" + on}
		},
	},
	{
		"end sessions of a user: all, one, and one with its code",
		func(e *env, w world) (string, error) { return "", e.endSessions(w.ann.ID) },
		nil,
		func(w world) []string { return slices.Repeat([]string{"session.end user:" + w.ann.ID}, 3) },
	},
	{
		"change an address, by a code",
		func(e *env, w world) (string, error) { return "", e.changeEmail(w.ann.ID) },
		func(w world) []string { return []string{"user " + w.ann.ID} },
		func(w world) []string {
			on := " user:" + w.ann.ID
			return []string{"user.email_link" + on, "user.code_withdraw" + on, "user.code_withdraw" + on, "user.email" + on}
		},
	},
	{
		"change nothing about a user",
		func(e *env, w world) (string, error) {
			no := false
			_, err := e.store.UpdateUser(e.ctx, actor, w.ann.ID, store.UserPatch{Disabled: &no, Name: &w.ann.Name})
			return "", err
		},
		nil, nil,
	},
	{
		"make a reset code",
		func(e *env, w world) (string, error) {
			return "", e.makeReset(w.ann.ID, "hash of a code", e.clock.Now().Add(time.Hour))
		},
		nil,
		func(w world) []string { return []string{"user.reset_link user:" + w.ann.ID} },
	},
	{
		"reset a password",
		func(e *env, w world) (string, error) {
			_, err := e.store.ResetPassword(e.ctx, actor, w.code, "hash")
			return "", err
		},
		func(w world) []string { return []string{"user " + w.ann.ID} },
		func(w world) []string {
			return []string{"user.reset user:" + w.ann.ID, "user.password user:" + w.ann.ID}
		},
	},
	{
		"make a code that begins a session",
		func(e *env, w world) (string, error) {
			return "", e.store.CreateSessionCode(e.ctx, actor, w.ann.ID, "hash of a code", e.clock.Now(), e.clock.Now().Add(time.Hour), store.AtProvider{})
		},
		nil,
		func(w world) []string { return []string{"session.code user:" + w.ann.ID} },
	},
	{
		"use a code that begins a session",
		func(e *env, w world) (string, error) {
			return "", e.begin(e.store, "begins by a code", w.ann.ID, store.Beginning{By: actor, Code: w.sessionCode})
		},
		nil,
		func(w world) []string { return []string{"session.code_use user:" + w.ann.ID} },
	},
	{
		"hash a password anew",
		func(e *env, w world) (string, error) {
			return "", e.store.RenewPasswordHash(e.ctx, actor, w.ann.ID, w.ann.PasswordHash, "renewed")
		},
		func(w world) []string { return []string{"user " + w.ann.ID} },
		func(w world) []string { return []string{"user.rehash user:" + w.ann.ID} },
	},
	{
		"hash a password anew that was changed meanwhile",
		func(e *env, w world) (string, error) {
			return "", e.store.RenewPasswordHash(e.ctx, actor, w.ann.ID, "another", "renewed")
		},
		nil, nil,
	},
	{
		"create a user with an identity",
		func(e *env, _ world) (string, error) {
			u, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "new@example.org"}, issuer, "new")
			return u.ID, err
		},
		func(world) []string { return []string{"user {new}"} },
		func(world) []string { return []string{"user.create user:{new}", "identity.link user:{new}"} },
	},
	{
		"link an identity",
		func(e *env, w world) (string, error) {
			return "", e.store.LinkIdentity(e.ctx, actor, w.ann.ID, issuer, "ann")
		},
		nil,
		func(w world) []string { return []string{"identity.link user:" + w.ann.ID} },
	},
	{
		"link an identity again",
		func(e *env, w world) (string, error) {
			return "", e.store.LinkIdentity(e.ctx, actor, w.root.ID, issuer, "root")
		},
		nil, nil,
	},
	{
		"unlink an identity",
		func(e *env, w world) (string, error) {
			return "", e.store.UnlinkIdentity(e.ctx, actor, w.root.ID, issuer, false, "")
		},
		nil,
		func(w world) []string { return []string{"identity.unlink user:" + w.root.ID} },
	},
	{
		"put a policy in force",
		func(e *env, _ world) (string, error) {
			return "", e.store.ActivatePolicy(e.ctx, actor, policy(1), []byte("archive"))
		},
		nil,
		func(world) []string { return []string{"policy.activate policy:sha256:01"} },
	},
	{
		"refuse a policy",
		func(e *env, _ world) (string, error) { return "", e.store.RefusePolicy(e.ctx, actor, policy(1)) },
		nil,
		func(world) []string { return []string{"policy.refuse policy:sha256:01"} },
	},
	{
		"follow the source of the policy again",
		func(e *env, _ world) (string, error) {
			_, err := e.store.ResumePolicy(e.ctx, actor)
			return "", err
		},
		nil,
		func(world) []string { return []string{"policy.resume policy:"} },
	},
	{
		"create domain",
		func(e *env, _ world) (string, error) {
			_, err := e.store.CreateDomain(e.ctx, actor, models.Domain{ID: "beta"})
			return "", err
		},
		func(world) []string { return []string{"domain beta"} },
		func(world) []string { return []string{"domain.create domain:beta"} },
	},
	{
		"rename and freeze a domain",
		func(e *env, _ world) (string, error) {
			name, status := "New", models.DomainIsFrozen
			_, err := e.store.UpdateDomain(e.ctx, actor, "acme", store.DomainPatch{Name: &name, Status: &status})
			return "", err
		},
		func(world) []string { return []string{"domain acme"} },
		func(world) []string { return []string{"domain.rename domain:acme", "domain.status domain:acme"} },
	},
	{
		"limit a domain",
		func(e *env, _ world) (string, error) {
			_, err := e.store.UpdateDomain(e.ctx, actor, "acme", store.DomainPatch{Limits: &models.DomainLimits{Approval: true}})
			return "", err
		},
		func(world) []string { return []string{"domain acme"} },
		func(world) []string { return []string{"domain.limits domain:acme"} },
	},
	{
		"approve a token",
		func(e *env, w world) (string, error) {
			_, err := e.store.ApprovePAT(e.ctx, actor, "acme", w.pat.ID, nil)
			return "", err
		},
		func(w world) []string { return []string{"token " + w.pat.ID} },
		func(w world) []string { return []string{"pat.approve pat:" + w.pat.ID} },
	},
	{
		"withdraw an approval that was not given",
		func(e *env, w world) (string, error) {
			_, err := e.store.WithdrawApproval(e.ctx, actor, "acme", w.pat.ID)
			return "", err
		},
		nil, nil,
	},
	{
		"revoke a token within a domain",
		func(e *env, w world) (string, error) {
			_, err := e.store.RevokeWithin(e.ctx, actor, "acme", w.old.ID, "why")
			return "", err
		},
		func(w world) []string { return []string{"token " + w.old.ID} },
		func(w world) []string { return []string{"pat.revoke pat:" + w.old.ID} },
	},
	{
		"change a role",
		func(e *env, w world) (string, error) {
			_, err := e.store.SetMember(e.ctx, actor, models.Membership{UserID: w.ann.ID, Domain: "acme", Role: "admin"})
			return "", err
		},
		func(w world) []string { return []string{"membership " + w.ann.ID + " acme"} },
		func(w world) []string { return []string{"member.set membership:acme/" + w.ann.ID} },
	},
	{
		"keep a role",
		func(e *env, w world) (string, error) {
			_, err := e.store.SetMember(e.ctx, actor, models.Membership{UserID: w.ann.ID, Domain: "acme", Role: "viewer"})
			return "", err
		},
		nil, nil,
	},
	{
		"remove a member",
		func(e *env, w world) (string, error) {
			return "", e.store.RemoveMember(e.ctx, actor, w.ann.ID, "acme")
		},
		func(w world) []string { return []string{"membership " + w.ann.ID + " acme"} },
		func(w world) []string { return []string{"member.remove membership:acme/" + w.ann.ID} },
	},
	{
		"create a token",
		func(e *env, w world) (string, error) {
			p, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(w.ann.ID, "new"))
			return p.ID, err
		},
		func(world) []string { return []string{"token {new}"} },
		func(world) []string { return []string{"pat.create pat:{new}"} },
	},
	{
		"rename a token",
		func(e *env, w world) (string, error) {
			name := "renamed"
			_, err := e.store.UpdatePAT(e.ctx, actor, w.ann.ID, w.pat.ID, store.PATPatch{Name: &name})
			return "", err
		},
		func(w world) []string { return []string{"token " + w.pat.ID} },
		func(w world) []string { return []string{"pat.update pat:" + w.pat.ID} },
	},
	{
		"limit a token to addresses",
		func(e *env, w world) (string, error) {
			_, err := e.store.UpdatePAT(e.ctx, actor, w.ann.ID, w.pat.ID, store.PATPatch{AllowedIPs: &[]string{"203.0.113.0/24"}})
			return "", err
		},
		func(w world) []string { return []string{"token " + w.pat.ID} },
		func(w world) []string { return []string{"pat.allowed_ips pat:" + w.pat.ID} },
	},
	{
		"rotate a token",
		func(e *env, w world) (string, error) {
			p, err := e.store.RotatePAT(e.ctx, actor, w.ann.ID, w.pat.ID, e.newPAT("", ""), 0)
			return p.ID, err
		},
		func(w world) []string { return []string{"token " + w.pat.ID, "token {new}"} },
		func(w world) []string { return []string{"pat.rotate pat:" + w.pat.ID, "pat.create pat:{new}"} },
	},
	{
		"revoke a token with a predecessor",
		func(e *env, w world) (string, error) {
			_, err := e.store.RevokePAT(e.ctx, actor, w.ann.ID, w.pat.ID)
			return "", err
		},
		func(w world) []string { return []string{"token " + w.pat.ID, "token " + w.old.ID} },
		func(w world) []string { return []string{"pat.revoke pat:" + w.pat.ID, "pat.revoke pat:" + w.old.ID} },
	},
	{
		"revoke all tokens",
		func(e *env, w world) (string, error) {
			_, err := e.store.RevokeAll(e.ctx, actor, w.ann.ID)
			return "", err
		},
		func(w world) []string {
			return []string{"token " + w.pat.ID, "token " + w.old.ID, "token " + w.wide.ID}
		},
		func(w world) []string {
			return []string{"pat.revoke pat:" + w.pat.ID, "pat.revoke pat:" + w.old.ID, "pat.revoke pat:" + w.wide.ID}
		},
	},
	{
		"delete a token",
		func(e *env, w world) (string, error) {
			return "", e.store.DeletePAT(e.ctx, actor, w.ann.ID, w.dead.ID)
		},
		func(w world) []string { return []string{"token " + w.dead.ID} },
		func(w world) []string { return []string{"pat.delete pat:" + w.dead.ID} },
	},
	{
		"add a scope",
		func(e *env, w world) (string, error) {
			_, err := e.store.AddScope(e.ctx, actor, w.ann.ID, w.pat.ID, scopes("beta:models:*:read")[0])
			return "", err
		},
		func(w world) []string { return []string{"token " + w.pat.ID} },
		func(w world) []string { return []string{"pat.add_scope pat:" + w.pat.ID} },
	},
	{
		"remove a scope",
		func(e *env, w world) (string, error) {
			_, err := e.store.RemoveScope(e.ctx, actor, w.ann.ID, w.wide.ID, w.wide.Scopes[0].ID)
			return "", err
		},
		func(w world) []string { return []string{"token " + w.wide.ID} },
		func(w world) []string { return []string{"pat.remove_scope pat:" + w.wide.ID} },
	},
	{
		"narrow a token",
		func(e *env, w world) (string, error) {
			_, err := e.store.NarrowPAT(e.ctx, actor, w.ann.ID, w.wide.ID, w.wide.Scopes[:1])
			return "", err
		},
		func(w world) []string { return []string{"token " + w.wide.ID} },
		func(w world) []string { return []string{"pat.narrow pat:" + w.wide.ID} },
	},
	{
		"note an event",
		func(e *env, w world) (string, error) {
			return "", e.store.Audit(e.ctx, actor, "session.create", "user:"+w.ann.ID, nil)
		},
		nil,
		func(w world) []string { return []string{"session.create user:" + w.ann.ID} },
	},
}

// refusals are writes that fail, most of them after they wrote something.
var refusals = []struct {
	name string
	code models.Code
	do   func(e *env, w world) error
}{
	{"a user's address is taken", models.CodeTaken, func(e *env, w world) error {
		_, err := e.store.CreateUser(e.ctx, actor, models.User{Email: w.ann.Email})
		return err
	}},
	{"a domain's id is taken", models.CodeTaken, func(e *env, _ world) error {
		_, err := e.store.CreateDomain(e.ctx, actor, models.Domain{ID: "acme"})
		return err
	}},
	{"the last admin would go", models.CodeConflict, func(e *env, w world) error {
		yes := true
		_, err := e.store.UpdateUser(e.ctx, actor, w.root.ID, store.UserPatch{Disabled: &yes})
		return err
	}},
	{"an identity is another's", models.CodeTaken, func(e *env, w world) error {
		return e.store.LinkIdentity(e.ctx, actor, w.ann.ID, issuer, "root")
	}},
	{"a new user's identity is another's", models.CodeTaken, func(e *env, _ world) error {
		_, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "new@example.org"}, issuer, "root")
		return err
	}},
	{"a new user with an identity has another's address", models.CodeTaken, func(e *env, w world) error {
		_, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: w.ann.Email}, issuer, "new")
		return err
	}},
	{"a reset code is not known", models.CodeNotFound, func(e *env, _ world) error {
		_, err := e.store.ResetPassword(e.ctx, actor, "nobody's", "hash")
		return err
	}},
	{"a reset code's hash is taken", models.CodeTaken, func(e *env, w world) error {
		return e.makeReset(w.root.ID, w.code, e.clock.Now().Add(time.Hour))
	}},
	{"too many live tokens", models.CodeLimitReached, func(e *env, w world) error {
		_, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(w.ann.ID, "new"))
		return err
	}},
	{"too many live tokens by rotation", models.CodeLimitReached, func(e *env, w world) error {
		_, err := e.store.RotatePAT(e.ctx, actor, w.ann.ID, w.pat.ID, e.newPAT("", ""), time.Minute)
		return err
	}},
	{"the successor's id is taken", models.CodeTaken, func(e *env, w world) error {
		next := e.newPAT("", "")
		next.ID = w.wide.ID
		_, err := e.store.RotatePAT(e.ctx, actor, w.ann.ID, w.pat.ID, next, 0)
		return err
	}},
	{"a token is not of the domain", models.CodeNotFound, func(e *env, w world) error {
		_, err := e.store.ApprovePAT(e.ctx, actor, "acme", w.wide.ID, nil)
		return err
	}},
	{"a scope's id is taken", models.CodeTaken, func(e *env, w world) error {
		sc := scopes("beta:models:*:read")[0]
		sc.ID = w.wide.Scopes[0].ID
		_, err := e.store.AddScope(e.ctx, actor, w.ann.ID, w.pat.ID, sc)
		return err
	}},
}

// writeCases makes a case of every write and of every refusal.
func writeCases() []testCase {
	var cases []testCase
	for _, write := range writes {
		cases = append(cases, testCase{name: write.name, test: func(e *env) {
			w := e.world()
			seq, event := e.lastChange(), e.lastEvent()
			var heard []store.Change
			e.store.OnChange(func(c []store.Change) { heard = append(heard, c...) })
			id, err := write.do(e, w)
			require.NoError(e, err)

			expect := func(list func(world) []string) []string {
				if list == nil {
					return nil
				}
				texts := list(w)
				for i := range texts {
					texts[i] = strings.ReplaceAll(texts[i], "{new}", id)
				}
				return texts
			}
			assert.ElementsMatch(e, expect(write.changes), e.changesAfter(seq))
			assert.ElementsMatch(e, expect(write.audit), e.auditAfter(event))
			told, err := e.store.Changes(e.ctx, seq, 100)
			require.NoError(e, err)
			assert.Equal(e, told.Changes, heard, "OnChange has told the same when the write returns")
			for _, c := range told.Changes {
				assert.Equal(e, e.clock.Now(), c.At)
			}
		}})
	}
	for _, refusal := range refusals {
		cases = append(cases, testCase{
			name:   refusal.name,
			config: limits(models.Limits{MaxLive: 3}), // as many as the world has
			test: func(e *env) {
				w := e.world()
				seq, event, live := e.lastChange(), e.lastEvent(), e.live(w.ann.ID)
				e.store.OnChange(func([]store.Change) { e.Error("nothing changed") })
				e.fails(refusal.code, refusal.do(e, w))
				assert.Empty(e, e.changesAfter(seq))
				assert.Empty(e, e.auditAfter(event))
				assert.Equal(e, live, e.live(w.ann.ID))
				assert.Equal(e, w.pat, e.reread(w.pat.ID))
			},
		})
	}
	return cases
}
