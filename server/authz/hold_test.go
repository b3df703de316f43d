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

// list is a proxied request that the default routes map to readAll.
var list = models.HTTPRequest{
	Method: "GET", Path: "/proxy/acme/v1/models", Segments: []string{"proxy", "acme", "v1", "models"},
	Query: map[string][]string{},
}

func (b *bed) begin(t *testing.T) *authz.Proxied {
	t.Helper()
	p, d, ok := b.Begin(t.Context(), authz.Call{Token: b.token, Surface: "gateway"})
	require.True(t, ok, "%v", d.Reasons)
	return p
}

func TestProxied(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	_, d, ok := b.Begin(t.Context(), authz.Call{Token: freshToken(), Surface: "gateway"})
	assert.False(t, ok)
	assert.Equal(t, []models.ReasonCode{models.TokenUnknown}, codes(d))
	assert.NotEmpty(t, d.ID)

	p := b.begin(t)
	need, websocket, err := p.Hints(t.Context(), list)
	require.NoError(t, err)
	assert.Nil(t, need)
	assert.False(t, websocket)
	d = p.Decide(t.Context(), list, models.Request{})
	assert.True(t, d.Allowed, "%v", d.Reasons)
	assert.Equal(t, readAll, p.Request())
	assert.Equal(t, b.pat.ID, d.TokenID)

	unmapped := list
	unmapped.Path, unmapped.Segments = "/proxy/acme/admin", []string{"proxy", "acme", "admin"}
	assert.Equal(t, []models.ReasonCode{models.RouteUnmapped}, codes(b.begin(t).Decide(t.Context(), unmapped, models.Request{})))
	fixed := models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}
	assert.True(t, b.begin(t).Decide(t.Context(), unmapped, fixed).Allowed, "an operator's route needs no policy route")
	assert.Equal(t, []models.ReasonCode{models.DomainUnknown},
		codes(b.begin(t).Decide(t.Context(), list, models.Request{Domain: "elsewhere"})), "the operator's domain counts")
	assert.Equal(t, []models.ReasonCode{models.RouteUnmapped}, codes(b.begin(t).Refuse(t.Context(), models.Because(models.RouteUnmapped))))
}

// A token that is not good any more is refused before a body is read; one that is
// good is judged for that once, until something about it changes.
func TestAdmit(t *testing.T) {
	for want, spoil := range map[models.ReasonCode]func(b *bed){
		models.TokenRevoked: func(b *bed) {
			b.Apply(b.world.change(func() {
				b.pat.RevokedAt = &b.pat.CreatedAt
				b.world.pats[b.pat.ID] = b.pat
			}, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
		},
		models.TokenExpired: func(b *bed) { b.clock.advance(2 * time.Hour) },
		models.UserDisabled: func(b *bed) {
			b.Apply(b.world.change(func() { delete(b.world.users, "u1") }, models.Change{Kind: models.ChangeUser, Key: "u1"}))
		},
		models.Unavailable: func(b *bed) {
			b.world.set(func() { b.world.fail = errDown })
			b.Apply([]models.Change{{Kind: models.ChangeUser, Key: "u1"}})
		},
	} {
		t.Run(string(want), func(t *testing.T) {
			b := newBed(t, nil)
			b.start(t)
			p := b.begin(t)
			for range 2 {
				d, ok := p.Admit(t.Context())
				require.True(t, ok, "%v", d.Reasons)
			}
			assert.Less(t, testing.AllocsPerRun(100, func() { _, _ = p.Admit(t.Context()) }), 5.0, "it is remembered")
			if want != models.Unavailable { // a token that cannot be looked up does not get this far
				spoil(b)
				p = b.begin(t)
			} else {
				spoil(b)
			}
			d, ok := p.Admit(t.Context())
			require.False(t, ok)
			assert.Equal(t, []models.ReasonCode{want}, codes(d))
			assert.NotEmpty(t, d.ID, "it is a decision like others")
		})
	}
}

// A 401 reason hides route_unmapped, whoever found it.
func TestBadTokensLearnNothingOfRoutes(t *testing.T) {
	unmapped := list
	unmapped.Path, unmapped.Segments = "/proxy/acme/admin", []string{"proxy", "acme", "admin"}
	for want, spoil := range map[models.ReasonCode]func(b *bed){
		models.TokenRevoked: func(b *bed) {
			b.pat.RevokedAt = &b.pat.CreatedAt
			b.world.pats[b.pat.ID] = b.pat
		},
		models.TokenExpired:  func(b *bed) { b.clock.advance(2 * time.Hour) },
		models.UserDisabled:  func(b *bed) { delete(b.world.users, "u1") },
		models.RouteUnmapped: func(*bed) {},
	} {
		b := newBed(t, nil)
		spoil(b)
		assert.Equal(t, []models.ReasonCode{want}, codes(b.begin(t).Refuse(t.Context(), models.Because(models.RouteUnmapped))))
		assert.Equal(t, []models.ReasonCode{want}, codes(b.begin(t).Decide(t.Context(), unmapped, models.Request{})))
	}
	b := newBed(t, nil)
	// Nor of what is wrong with a body.
	b.pat.RevokedAt = &b.pat.CreatedAt
	b.world.pats[b.pat.ID] = b.pat
	for _, code := range []models.ReasonCode{models.BodyInvalid, models.BodyTooLarge, models.EncodingUnsupported, models.RateLimited} {
		assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(b.begin(t).Refuse(t.Context(), models.Because(code))), code)
	}
	b = newBed(t, nil)
	p := b.begin(t)
	b.world.set(func() { b.world.fail = errDown })
	assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(p.Refuse(t.Context(), models.Because(models.RouteUnmapped))))
}

func TestTokenDiesWhileTheBodyIsRead(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	p := b.begin(t)
	b.Apply(b.world.change(func() { delete(b.world.pats, b.pat.ID) }, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
	assert.Equal(t, []models.ReasonCode{models.TokenUnknown}, codes(p.Decide(t.Context(), list, models.Request{})))
}

func TestHold(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *bed)
		cut  bool
	}{
		{"revoked", func(b *bed) {
			b.Apply(b.world.change(func() {
				p := b.pat
				p.RevokedAt = &p.CreatedAt
				b.world.pats[p.ID] = p
			}, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
		}, true},
		{"deleted", func(b *bed) {
			b.Apply(b.world.change(func() { delete(b.world.pats, b.pat.ID) }, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
		}, true},
		{"membership removed by another process", func(b *bed) {
			b.world.change(func() { clear(b.world.members) }, models.Change{Kind: models.ChangeMembership, Key: "u1", Key2: "acme"})
		}, true},
		{"owner disabled", func(b *bed) {
			b.Apply(b.world.change(func() { b.world.users["u1"] = models.User{ID: "u1", Disabled: true} }, models.Change{Kind: models.ChangeUser, Key: "u1"}))
		}, true},
		{"domain disabled", func(b *bed) {
			b.Apply(b.world.change(func() { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsDisabled} },
				models.Change{Kind: models.ChangeDomain, Key: "acme"}))
		}, true},
		{"time is up", func(b *bed) {
			b.clock.advance(2 * time.Hour)
			b.Apply([]models.Change{{Kind: models.ChangeToken, Key: b.pat.ID}})
		}, true},
		{"database gone for longer than trusted", func(b *bed) {
			b.world.set(func() { b.world.fail = errDown })
			b.Apply([]models.Change{{Kind: models.ChangeUser, Key: "u1"}})
			b.clock.advance(30 * time.Minute)
		}, true},
		{"the same policy again", func(b *bed) { b.policy.Swap(b.policy.Current()) }, false},
		{"another user's change", func(b *bed) { b.Apply([]models.Change{{Kind: models.ChangeUser, Key: "u2"}}) }, false},
		{"a change that matters not", func(b *bed) { b.Apply([]models.Change{{Kind: models.ChangeUser, Key: "u1"}}) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, nil)
			b.start(t)
			p := b.begin(t)
			require.True(t, p.Decide(t.Context(), list, models.Request{}).Allowed)
			ctx, stop := p.Hold(t.Context())
			c.do(b)
			if c.cut {
				for i := 0; ctx.Err() == nil && i < 10_000; i++ {
					select {
					case <-ctx.Done():
					case <-time.After(time.Millisecond):
						b.clock.advance(time.Minute) // time goes on for what waits out an outage
					}
				}
				require.ErrorIs(t, context.Cause(ctx), authz.ErrDenied)
				stop()
				return
			}
			// What was announced is judged in the background; a second hold that is
			// opened after it and ends shows that the first had its chance.
			require.True(t, b.ask(b.token).Allowed)
			assert.NoError(t, ctx.Err())
			stop()
			assert.NotErrorIs(t, context.Cause(ctx), authz.ErrDenied)
		})
	}
}

// A change between the decision and the start of the watch is not missed.
func TestHoldLooksOnceMore(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	p := b.begin(t)
	require.True(t, p.Decide(t.Context(), list, models.Request{}).Allowed)
	b.Apply(b.world.change(func() { clear(b.world.members) }, models.Change{Kind: models.ChangeMembership, Key: "u1", Key2: "acme"}))
	ctx, stop := p.Hold(t.Context())
	defer stop()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
	}
	assert.ErrorIs(t, context.Cause(ctx), authz.ErrDenied)
}

// A stream ends when its token does, without anybody announcing it.
func TestHoldEndsWithTheToken(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.Clock = time.Now })
	b.pat.CreatedAt = time.Now()
	b.pat.ExpiresAt = time.Now().Add(1200 * time.Millisecond).Truncate(time.Second).Add(time.Second)
	b.world.pats[b.pat.ID] = b.pat
	b.start(t)
	p := b.begin(t)
	require.True(t, p.Decide(t.Context(), list, models.Request{}).Allowed)
	ctx, stop := p.Hold(t.Context())
	defer stop()
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
	}
	assert.ErrorIs(t, context.Cause(ctx), authz.ErrDenied)
	assert.False(t, time.Now().Before(b.pat.ExpiresAt))
}
