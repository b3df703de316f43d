package models_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/models"
)

var catalog = models.Catalog{
	EntityTypes: map[string]models.EntityType{
		"models":  {Operations: map[string]models.Operation{"read": {}, "execute": {}}},
		"domains": {Operations: map[string]models.Operation{"read": {}}},
	},
	Roles: map[string]models.Role{"viewer": {"models": {"read": true}}, "admin": {"domains": {"write": true}}},
}

func fieldsOf(err error) map[string]string {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return nil
	}
	out := map[string]string{}
	for _, f := range e.Fields {
		out[f.Field] = f.Message
	}
	return out
}

func TestParseScope(t *testing.T) {
	for text, want := range map[string]models.Scope{
		"acme:models:*:read":             {Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"},
		"*:models:llama3:8b:execute":     {Domain: "*", EntityType: "models", Entity: "llama3:8b", Operation: "execute"},
		"a:b:c:d:e:f":                    {Domain: "a", EntityType: "b", Entity: "c:d:e", Operation: "f"},
		"acme:models:hf.co/x/y:Q4:write": {Domain: "acme", EntityType: "models", Entity: "hf.co/x/y:Q4", Operation: "write"},
	} {
		s, err := models.ParseScope(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, s)
		assert.Equal(t, text, s.String())
	}
	for _, text := range []string{"", "a", "a:b", "a:b:c", "acme models read"} {
		_, err := models.ParseScope(text)
		assert.Error(t, err, text)
	}
}

func FuzzParseScope(f *testing.F) {
	f.Add("acme:models:*:read")
	f.Add("acme:models:llama3:8b:read")
	f.Add(":::")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := models.ParseScope(text)
		if err != nil {
			return
		}
		if s.String() != text {
			t.Fatalf("%q comes back as %q", text, s)
		}
		if strings.Contains(s.Domain+s.EntityType+s.Operation, ":") {
			t.Fatalf("%q: a colon outside the entity: %+v", text, s)
		}
		var v models.Invalid
		s.Validate(catalog, "", &v)
		if v.Err() == nil && !s.Covers(models.Request{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}) {
			t.Fatalf("%q does not cover itself", text)
		}
	})
}

func TestCovers(t *testing.T) {
	req := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	collection := req
	collection.Entity = models.Any
	for _, c := range []struct {
		scope       string
		one, listed bool
	}{
		{"acme:models:*:read", true, true},
		{"*:models:*:read", true, true},
		{"acme:models:llama3:read", true, false},
		{"*:models:llama3:read", true, false},
		{"acme:models:llama:read", false, false},
		{"acme:models:llama3:write", false, false},
		{"acme:models:llama3:*", false, false},
		{"acme:*:llama3:read", false, false},
		{"other:models:*:read", false, false},
	} {
		s, err := models.ParseScope(c.scope)
		require.NoError(t, err)
		assert.Equal(t, c.one, s.Covers(req), c.scope)
		assert.Equal(t, c.listed, s.Covers(collection), c.scope)
	}
}

func TestValidateScopes(t *testing.T) {
	good := models.Scope{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}
	with := func(change func(*models.Scope)) []models.Scope {
		s := good
		change(&s)
		return []models.Scope{good, s}
	}
	many := make([]models.Scope, 65)
	for _, c := range []struct {
		name   string
		scopes []models.Scope
		field  string
	}{
		{"fine", []models.Scope{good}, ""},
		{"none", nil, "scopes"},
		{"too many", many, "scopes"},
		{"same twice", []models.Scope{good, good}, "scopes[1]"},
		{"domain", with(func(s *models.Scope) { s.Domain = "Acme" }), "scopes[1].domain"},
		{"domain starts with a dash", with(func(s *models.Scope) { s.Domain = "-a" }), "scopes[1].domain"},
		{"long domain", with(func(s *models.Scope) { s.Domain = strings.Repeat("a", 64) }), "scopes[1].domain"},
		{"any domain", with(func(s *models.Scope) { s.Domain = "*" }), ""},
		{"any type", with(func(s *models.Scope) { s.EntityType = "*" }), "scopes[1].entity_type"},
		{"any operation", with(func(s *models.Scope) { s.Operation = "*" }), "scopes[1].operation"},
		{"unknown type", with(func(s *models.Scope) { s.EntityType = "robots" }), "scopes[1].entity_type"},
		{"empty entity", with(func(s *models.Scope) { s.Entity = "" }), "scopes[1].entity"},
		{"space in entity", with(func(s *models.Scope) { s.Entity = "a b" }), "scopes[1].entity"},
		{"quote in entity", with(func(s *models.Scope) { s.Entity = `a"b` }), "scopes[1].entity"},
		{"long entity", with(func(s *models.Scope) { s.Entity = strings.Repeat("a", 257) }), "scopes[1].entity"},
		{"256 is fine", with(func(s *models.Scope) { s.Entity = strings.Repeat("a", 256) }), ""},
		{"domains of another", with(func(s *models.Scope) { s.EntityType, s.Entity = "domains", "other" }), "scopes[1].entity"},
		{"domains of its own", with(func(s *models.Scope) { s.EntityType, s.Entity = "domains", "acme" }), ""},
	} {
		var v models.Invalid
		models.ValidateScopes(c.scopes, catalog, models.DefaultLimits(), &v)
		fields := fieldsOf(v.Err())
		if c.field == "" {
			assert.Empty(t, fields, c.name)
			continue
		}
		assert.Contains(t, fields, c.field, c.name)
		assert.Len(t, fields, 1, c.name)
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before, after := now.Add(-time.Hour), now.Add(time.Hour)
	assert.Equal(t, models.StatusActive, models.PAT{ExpiresAt: after}.Status(now))
	assert.Equal(t, models.StatusExpired, models.PAT{ExpiresAt: now}.Status(now), "it is over at the very second")
	assert.Equal(t, models.StatusExpired, models.PAT{ExpiresAt: before}.Status(now))
	assert.Equal(t, models.StatusRevoked, models.PAT{ExpiresAt: before, RevokedAt: &before}.Status(now))

	p := models.PAT{CreatedAt: now.Add(500 * time.Millisecond), ExpiresAt: now.Add(48 * time.Hour)}
	assert.Equal(t, now.Add(24*time.Hour+time.Second), p.WithMaxLifetime(24*time.Hour).ExpiresAt)
	assert.Equal(t, p.ExpiresAt, p.WithMaxLifetime(72*time.Hour).ExpiresAt)
	assert.Equal(t, p.ExpiresAt, p.WithMaxLifetime(0).ExpiresAt)
}

func TestLifetime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	const limit = 366 * 24 * time.Hour
	for _, c := range []struct {
		name  string
		life  models.Lifetime
		want  time.Time
		field string
	}{
		{"in", models.Lifetime{In: "30d"}, time.Date(2026, 2, 1, 3, 4, 6, 0, time.UTC), ""},
		{"at", models.Lifetime{At: now.Add(time.Hour)}, time.Date(2026, 1, 2, 4, 4, 6, 0, time.UTC), ""},
		{"one second", models.Lifetime{In: "1s"}, time.Date(2026, 1, 2, 3, 4, 7, 0, time.UTC), ""},
		{"the maximum", models.Lifetime{In: "366d"}, now.Add(limit).Truncate(time.Second).Add(time.Second), ""},
		{"neither", models.Lifetime{}, time.Time{}, "expires_in"},
		{"both", models.Lifetime{In: "1d", At: now.Add(time.Hour)}, time.Time{}, "expires_in"},
		{"garbage", models.Lifetime{In: "soon"}, time.Time{}, "expires_in"},
		{"under a second", models.Lifetime{In: "999ms"}, time.Time{}, "expires_in"},
		{"too long", models.Lifetime{In: "367d"}, time.Time{}, "expires_in"},
		{"past", models.Lifetime{At: now.Add(-time.Hour)}, time.Time{}, "expires_at"},
		{"far future", models.Lifetime{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, time.Time{}, "expires_at"},
		{"ancient", models.Lifetime{At: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}, time.Time{}, "expires_at"},
	} {
		var v models.Invalid
		got := c.life.Resolve(now, limit, &v)
		if c.field == "" {
			require.NoError(t, v.Err(), c.name)
			assert.Equal(t, c.want, got, c.name)
			continue
		}
		assert.Contains(t, fieldsOf(v.Err()), c.field, c.name)
		assert.True(t, got.IsZero(), c.name)
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "2w": 14 * day, "1w2d": 9 * day, "1d12h": 36 * time.Hour, "12h": 12 * time.Hour,
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"P30D": 30 * day, "P2W": 14 * day, "PT12H": 12 * time.Hour, "P1DT30M": day + 30*time.Minute, "PT90S": 90 * time.Second,
		"P1W2DT3H4M5S": 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second,
	} {
		got, err := models.ParseDuration(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "0", "0s", "0d", "-1d", "1d-2h", "1d+2h", "+1h", "-5m", "30", "d", "P", "PT", "P1", "PD", "P1Y", "P1M", "P1DT", "PT1D", "PT1S1M",
		"P1D1W", "P-1D", "1.5d", "1d2d", "1 d", "30D", "p30d", "99999999999999999999d", "999999999d", "P999999999W", "1d2w", "１d",
		strings.Repeat("1", 70) + "s",
	} {
		_, err := models.ParseDuration(text)
		assert.Error(t, err, "%q", text)
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"30d", "P1DT30M", "1h30m", "PT", "2w3d4h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := models.ParseDuration(text)
		if err != nil {
			return
		}
		if d <= 0 {
			t.Fatalf("%q is %s", text, d)
		}
		again, err := models.ParseDuration(models.FormatDuration(d))
		if err != nil || again != d {
			t.Fatalf("%q is %s, written %s, read as %s (%v)", text, d, models.FormatDuration(d), again, err)
		}
	})
}

func TestFormatDuration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1, 1<<62).Draw(t, "d"))
		again, err := models.ParseDuration(models.FormatDuration(d))
		if err != nil || again != d {
			t.Fatalf("%d is written %s and read as %d (%v)", d, models.FormatDuration(d), again, err)
		}
	})
	for d, want := range map[time.Duration]string{48 * time.Hour: "2d", time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 25 * time.Hour: "25h"} {
		assert.Equal(t, want, models.FormatDuration(d))
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"plain", "ci", true},
		{"words", "laptop of Zoë", true},
		{"emoji", "🚀 deploy", true},
		{"100 runes", strings.Repeat("é", 100), true},
		{"empty", "", false},
		{"101", strings.Repeat("a", 101), false},
		{"spaces around", " ci", false},
		{"line break", "a\nb", false},
		{"NUL", "a\x00", false},
		{"bidi override", "a\u202eb", false},
		{"zero width", "a\u200bb", false},
		{"Persian with a non-joiner", "می\u200cخواهم", true},
		{"Hindi with a joiner", "क्\u200dष", true},
		{"an emoji of several", "👩\u200d💻", true},
		{"a flag of several", "🏳\ufe0f\u200d🌈", true},
		{"a skin tone", "👩🏽\u200d🚀", true},
		{"a joiner that only hides", "ad\u200dmin", false},
		{"a non-joiner that only hides", "ad\u200cmin", false},
		{"a joiner at the end", "می\u200c", false},
		{"a joiner at the beginning", "\u200cمی", false},
		{"two joiners", "می\u200c\u200cخواهم", false},
		{"tab", "a\tb", false},
		{"not UTF-8", "a\xff", false},
	} {
		var v models.Invalid
		models.ValidateName("name", c.text, &v)
		assert.Equal(t, c.ok, v.Err() == nil, c.name)
	}
	var v models.Invalid
	models.ValidateDescription("description", "two\nlines", &v)
	models.ValidateDescription("description", "two\r\nlines, and\ta tab", &v)
	models.ValidateDescription("description", "", &v)
	assert.NoError(t, v.Err())
	models.ValidateDescription("description", "a lone\rreturn", &v)
	assert.Error(t, v.Err())
}

func TestPeople(t *testing.T) {
	for email, ok := range map[string]bool{
		"a@example.com": true, "a.b+c@sub.example.com": true,
		"": false, "a": false, "A <a@example.com>": false, "a@example.com, b@example.com": false, "a b@example.com": false,
		strings.Repeat("a", 250) + "@example.com": false,
	} {
		var v models.Invalid
		models.ValidateEmail("email", email, &v)
		assert.Equal(t, ok, v.Err() == nil, email)
	}
	assert.Equal(t, "a@example.com", models.NormalizeEmail(" A@Example.com "))
	// Letters that Unicode folds, composes or maps into others stay what they are: İ, K (Kelvin), ſ,
	// ı, full-width letters and signs, ligatures, e with an acute in one character and in two.
	for _, email := range []string{
		"\u0130@x.example", "\u212a@x.example", "a@\u017fales.example", "\u0131@x.example", "a@\uff53ales.example", "a\uff20sales.example",
		"\ufb01n@x.example", "caf\u00e9@x.example", "cafe\u0301@x.example", "a@sales\u3002example", "a@x\u200d.example",
	} {
		assert.Equal(t, email, models.NormalizeEmail(email))
	}

	for password, ok := range map[string]bool{
		"correct horse battery": true, "short": false, "Someone@example.com": false, strings.Repeat("x", 257): false, "twelve chars": true,
		// The order of trials.
		"password1234": false, "PassWord1234": false, "000000000000": false, "123456789012": false, "qwertyuiop123": false, "letmeinletmein": false,
		"password1234-but-longer": true, "\uff50assword1234": true,
	} {
		var v models.Invalid
		models.ValidatePassword("password", password, "someone@example.com", &v)
		assert.Equal(t, ok, v.Err() == nil, password)
	}
	var v models.Invalid
	catalog.ValidateRole("role", "viewer", &v)
	models.ValidateDomainStatus("status", models.DomainIsFrozen, &v)
	models.ValidateDomainID("id", "0-a", &v)
	require.NoError(t, v.Err())
	catalog.ValidateRole("role", "king", &v)
	models.ValidateDomainStatus("status", "closed", &v)
	models.ValidateDomainID("id", "", &v)
	assert.Len(t, fieldsOf(v.Err()), 3)
	assert.True(t, catalog.Roles["admin"].AdministersDomain())
	assert.False(t, catalog.Roles["viewer"].AdministersDomain())
}

func TestRequestValidate(t *testing.T) {
	assert.NoError(t, models.Request{Domain: "nowhere", EntityType: "robots", Entity: "*", Operation: "dance"}.Validate(),
		"unknown is for the policy to say")
	fields := fieldsOf(models.Request{Domain: "a b", Entity: strings.Repeat("x", 257)}.Validate())
	assert.Len(t, fields, 4)
}

func TestDecision(t *testing.T) {
	req := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "read"}
	deny := func(codes ...models.ReasonCode) models.Decision {
		var d models.Decision
		for _, c := range codes {
			d.Reasons = append(d.Reasons, models.Reason{Code: c})
		}
		return d
	}
	for _, c := range []struct {
		d         models.Decision
		status    int
		challenge string
	}{
		{models.Decision{Allowed: true}, http.StatusOK, ""},
		{deny(models.TokenMissing), 401, `Bearer realm="patrol"`},
		{deny(models.TokenMalformed), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.TokenUnknown), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.TokenRevoked), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.TokenExpired), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.UserDisabled), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.OutOfScope), 403, `Bearer realm="patrol", error="insufficient_scope", scope="acme:models:llama3:8b:read"`},
		{deny("policys_own"), 403, ""},
		{deny(models.OutOfScope, models.RoleForbids), 403, ""},
		{deny(models.RouteUnmapped), 403, ""},
		{deny(models.NotAMember), 403, ""},
		{deny(models.BodyInvalid), 400, ""},
		{deny(models.BodyTooLarge), 413, ""},
		{deny(models.EncodingUnsupported), 415, ""},
		{deny(models.RateLimited), 429, ""},
		{deny(models.RateLimited, models.OutOfScope), 403, ""},
		{deny(models.BodyInvalid, models.TokenRevoked), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.BodyInvalid, models.Unavailable), 503, ""},
		{deny(models.OutOfScope, models.TokenRevoked), 401, `Bearer realm="patrol", error="invalid_token"`},
		{deny(models.TokenRevoked, models.Unavailable), 503, ""},
		{deny(models.PolicyError), 503, ""},
		{models.Decision{}, 403, ""},
	} {
		assert.Equal(t, c.status, c.d.Status(), "%v", c.d.Reasons)
		assert.Equal(t, c.challenge, c.d.Challenge(req), "%v", c.d.Reasons)
	}
	assert.Equal(t, `Bearer realm="patrol", error="insufficient_scope"`, deny(models.OutOfScope).Challenge(models.Request{Entity: `a"b`}))
	assert.Equal(t, `Bearer realm="patrol", error="insufficient_scope"`, deny(models.OutOfScope).Challenge(models.Request{}),
		"a request that is not known has no scope to name")
	for _, c := range []models.ReasonCode{
		models.TokenMissing, models.TokenMalformed, models.TokenUnknown, models.RouteUnmapped, models.PolicyError, models.Unavailable,
		models.BodyInvalid, models.BodyTooLarge, models.EncodingUnsupported, models.RateLimited,
	} {
		d := models.Deny(c)
		assert.True(t, d.Has(c))
		assert.NotEmpty(t, d.Reasons[0].Message)
		assert.False(t, d.Allowed)
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("disk on fire")
	err := models.WrapError(models.CodeUnavailable, "try again", cause)
	assert.ErrorIs(t, err, cause)
	assert.Equal(t, "unavailable: try again: disk on fire", err.Error())
	assert.Equal(t, models.CodeInternal, models.CodeOf(cause))
	assert.Equal(t, models.Code(""), models.CodeOf(nil))
	var v models.Invalid
	v.Add("a", "is %d", 1)
	v.Add("b", "is bad")
	assert.Equal(t, "validation_failed: some fields are not valid (a: is 1; b: is bad)", v.Err().Error())
}
