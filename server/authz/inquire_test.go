package authz_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/authz"
)

// kept are the decisions that were recorded.
type kept struct{ records []authz.Record }

func (k *kept) Record(_ context.Context, r authz.Record) error {
	k.records = append(k.records, r)
	return nil
}

// TestInquire has questions about users and tokens, by somebody else than the token's holder.
// Each is asked again of an examination, which must say the same.
func TestInquire(t *testing.T) {
	read := func(domain, entity string) models.Request {
		return models.Request{Domain: domain, EntityType: "models", Entity: entity, Operation: "read"}
	}
	write := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "write"}
	for name, tc := range map[string]struct {
		about  authz.About
		req    models.Request
		change func(*bed)
		want   []models.ReasonCode
	}{
		"a user":                    {about: authz.About{UserID: "u1"}, req: readAll},
		"beyond the role":           {about: authz.About{UserID: "u1"}, req: write, want: []models.ReasonCode{models.RoleForbids}},
		"of another domain":         {about: authz.About{UserID: "u1"}, req: read("nowhere", "x"), want: []models.ReasonCode{models.DomainUnknown}},
		"who is gone":               {about: authz.About{UserID: "u9"}, req: readAll, want: []models.ReasonCode{models.UserDisabled}},
		"who is disabled":           {about: authz.About{UserID: "u1"}, req: readAll, change: func(b *bed) { b.world.users["u1"] = models.User{ID: "u1", Disabled: true} }, want: []models.ReasonCode{models.UserDisabled}},
		"where approval is needed":  {about: authz.About{UserID: "u1"}, req: readAll, change: limiting(models.DomainLimits{Approval: true, MaxLifetime: time.Minute})},
		"all where * counts not":    {about: authz.About{UserID: "u1"}, req: readAll, change: limiting(models.DomainLimits{NoWildcards: true}), want: []models.ReasonCode{models.WildcardForbidden}},
		"one where * counts not":    {about: authz.About{UserID: "u1"}, req: read("acme", "llama3"), change: limiting(models.DomainLimits{NoWildcards: true})},
		"a token":                   {about: authz.About{TokenID: "of the bed"}, req: readAll},
		"a token beyond its scopes": {about: authz.About{TokenID: "of the bed"}, req: models.Request{Domain: "acme", EntityType: "models", Entity: "x", Operation: "execute"}, want: []models.ReasonCode{models.OutOfScope}},
		"a token without approval":  {about: authz.About{TokenID: "of the bed"}, req: readAll, change: limiting(models.DomainLimits{Approval: true}), want: []models.ReasonCode{models.ApprovalRequired}},
		"a token there is not":      {about: authz.About{TokenID: "0000000000000000"}, req: readAll, want: []models.ReasonCode{models.TokenUnknown}},
	} {
		t.Run(name, func(t *testing.T) {
			log := &kept{}
			b := newBed(t, func(c *authz.Config) { c.Recorder = log })
			if tc.change != nil {
				tc.change(b)
			}
			b.start(t)
			if tc.about.TokenID == "of the bed" {
				tc.about.TokenID = b.pat.ID
			}
			call := authz.Call{Request: tc.req, Surface: "authzen"}
			got := b.Inquire(t.Context(), call, tc.about)
			want := tc.want
			assert.Equal(t, want, codes(got.Decision))
			assert.Empty(t, got.DependsOn)
			if tc.about.UserID != "" {
				assert.Empty(t, got.TokenID+got.ScopeID, "a supposed token is nobody's")
				assert.Equal(t, tc.about.UserID, got.UserID)
			}
			require.Len(t, log.records, 1)
			assert.Equal(t, models.SurfaceInquiry, log.records[0].Surface)
			assert.Equal(t, got.ID, log.records[0].Decision.ID)

			e := b.Examine()
			user, domain, member := b.facts(tc.about.UserID, tc.req.Domain)
			x := e.User(user)
			if tc.about.TokenID != "" {
				pat, ok := b.world.pats[tc.about.TokenID]
				if !ok {
					return
				}
				user, domain, member = b.facts(pat.UserID, tc.req.Domain)
				x = e.Token(pat, user)
			}
			for range 2 {
				assert.Equal(t, want, codes(x.May(t.Context(), tc.req, domain, member).Decision), "in an examination")
			}
			assert.Len(t, log.records, 1, "an examination is not recorded")
		})
	}
}

// facts are those about a user and a domain; nil: there is no such thing.
func (b *bed) facts(userID, domainID string) (user *models.User, domain *models.Domain, member *models.Membership) {
	if u, ok := b.world.users[userID]; ok {
		user = &u
	}
	if d, ok := b.world.domains[domainID]; ok {
		domain = &d
	}
	if m, ok := b.world.members[[2]string{userID, domainID}]; ok {
		member = &m
	}
	return user, domain, member
}

func limiting(l models.DomainLimits) func(*bed) {
	return func(b *bed) {
		b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: l}
	}
}

// An inquiry is no use of the token, and none of a token that was rotated is told to its owner.
func TestAnInquiryIsNoUse(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	require.True(t, b.Inquire(t.Context(), authz.Call{Request: readAll}, authz.About{TokenID: b.pat.ID}).Allowed)
	require.True(t, b.Inquire(t.Context(), authz.Call{Request: readAll}, authz.About{UserID: "u1"}).Allowed)
	require.True(t, b.ask(b.token).Allowed)
	require.Eventually(t, func() bool { return len(b.world.noted()) > 0 }, 10*time.Second, time.Millisecond)
	assert.Len(t, b.world.noted(), 1)
}

// A revocation binds the next inquiry.
func TestAnInquiryIsCurrent(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	about := authz.About{TokenID: b.pat.ID}
	require.True(t, b.Inquire(t.Context(), authz.Call{Request: readAll}, about).Allowed)
	at := b.clock.Now()
	b.Apply(b.world.change(func() {
		p := b.world.pats[b.pat.ID]
		p.RevokedAt = &at
		b.world.pats[b.pat.ID] = p
	}, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
	assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(b.Inquire(t.Context(), authz.Call{Request: readAll}, about).Decision))
}

// noted are the ids of the tokens whose uses were written down.
func (w *world) noted() (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range w.uses {
		ids = append(ids, u.TokenID)
	}
	return ids
}
