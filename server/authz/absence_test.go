package authz_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/authz"
)

// Who signs in at the provider alone and stays away counts as disabled from the date on, though
// nothing was written and everything is cached, until they come back.
func TestAbsence(t *testing.T) {
	const limit = 20 * time.Minute
	for name, c := range map[string]struct {
		user   func(at *time.Time) models.User
		limit  time.Duration
		allows bool
	}{
		"only there":                {user: func(at *time.Time) models.User { return models.User{ProviderAt: at} }, limit: limit},
		"an admin, only there":      {user: func(at *time.Time) models.User { return models.User{ProviderAt: at, Admin: true} }, limit: limit},
		"with a password too":       {user: func(at *time.Time) models.User { return models.User{ProviderAt: at, PasswordHash: "x"} }, limit: limit, allows: true},
		"never there":               {user: func(*time.Time) models.User { return models.User{} }, limit: limit, allows: true},
		"only there, without limit": {user: func(at *time.Time) models.User { return models.User{ProviderAt: at} }, allows: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, func(cfg *authz.Config) { cfg.MaxAbsence = c.limit })
			b.start(t)
			set := func(at time.Time) {
				u := c.user(&at)
				u.ID, u.Email = "u1", "u1@example.com"
				b.Apply(b.world.change(func() { b.world.users["u1"] = u }, models.Change{Kind: models.ChangeUser, Key: "u1"}))
			}
			set(b.clock.Now())
			require.True(t, b.ask(b.token).Allowed)
			b.clock.advance(limit - time.Nanosecond)
			require.True(t, b.ask(b.token).Allowed)
			b.clock.advance(time.Nanosecond)
			d := b.ask(b.token)
			assert.Equal(t, c.allows, d.Allowed)
			if !c.allows {
				assert.Equal(t, []models.ReasonCode{models.UserDisabled}, codes(d))
				assert.Equal(t, 401, d.Status())
				set(b.clock.Now())
				assert.True(t, b.ask(b.token).Allowed, "they came back")
			}
		})
	}
}
