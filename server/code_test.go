package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

// code gets a code for a program, as somebody who signed in a moment ago.
func (v *visitor) code() string {
	v.w.t.Helper()
	page := v.post("/profile/sessions/code", url.Values{}).shows(v)
	assert.Equal(v.w.t, "no-store", page.header.Get("Cache-Control"))
	return attr(page.byID("code"), "value")
}

func TestAProgramSignsInByACode(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		ann := w.visit("ann")
		assert.Contains(t, ann.get("/profile/sessions").is(200).text, `href="/profile/sessions/code"`)
		ann.get("/profile/sessions/code").is(200)
		w.clock.Advance(4 * time.Minute)
		code := ann.code()
		require.Regexp(t, "^([A-Z2-7]{5}-){3}[A-Z2-7]{5}$", code)
		in := api.SignIn{Code: strings.ToLower(code), Transport: "bearer"}
		for _, wrong := range []api.SignIn{
			{Code: code}, {Code: code, Transport: "cookie"}, {Code: code, Transport: "bearer", Email: "ann@example.com"}, {Code: code, Transport: "bearer", Password: "x"},
		} {
			w.as("").post("/api/v1/session", wrong).problem(422, models.CodeInvalid)
		}
		var session api.Session
		w.as("").post("/api/v1/session", in).is(201).into(&session)
		assert.Equal(t, "ann@example.com", session.User.Email)
		w.with(session.SessionToken).get("/api/v1/me").is(200)
		used := w.as("").post("/api/v1/session", in).problem(401, models.CodeBadCredentials)

		replaced, late := ann.code(), ann.code()
		w.clock.Advance(5 * time.Minute)
		for _, code := range []string{replaced, late, "AAAAA-AAAAA-AAAAA-AAAAA", "é"} {
			p := w.as("").post("/api/v1/session", api.SignIn{Code: code, Transport: "bearer"}).problem(401, models.CodeBadCredentials)
			assert.Equal(t, used.Detail, p.Detail)
			w.clock.Advance(15 * time.Second)
		}

		// It is as recent as the sign-in behind it: 10 minutes are over for both.
		w.clock.Advance(30 * time.Second)
		newPAT := api.NewPAT{Name: "x", ExpiresIn: "1d", Scopes: []api.NewScope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}}}
		w.with(session.SessionToken).post("/api/v1/pats", newPAT).problem(403, models.CodeReauthentication)
		refused := ann.post("/profile/sessions/code", url.Values{}).is(422)
		assert.Contains(t, refused.text, "Your password")
		ann.post("/profile/sessions/code", url.Values{"password": {"wrong"}}).is(422)
		page := ann.post("/profile/sessions/code", url.Values{"password": {password}}).shows(ann)
		w.as("").post("/api/v1/session", api.SignIn{Code: attr(page.byID("code"), "value"), Transport: "bearer"}).is(201).into(&session)
		w.with(session.SessionToken).post("/api/v1/pats", newPAT).is(201)

		assert.NotContains(t, w.dump()+w.logs.String(), code)
		assert.NotContains(t, w.dump()+w.logs.String(), strings.ReplaceAll(code, "-", ""))
	})
}

// Wrong codes lock nobody out: their bits are what stops guessing.
func TestWrongSessionCodesLockNobodyOut(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	code := w.visit("ann").code()
	with := func(code string) *answer {
		return w.as("").post("/api/v1/session", api.SignIn{Code: code, Transport: "bearer"})
	}
	for range 50 {
		with("AAAAA-AAAAA-AAAAA-AAAAA").problem(401, models.CodeBadCredentials)
	}
	with(code).is(201)
	with(code).problem(401, models.CodeBadCredentials)
}

// Who signs in at the identity provider signs the command line in, too.
func TestACodeWithoutAPassword(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	var session api.Session
	w.as("").post("/api/v1/session", api.SignIn{Code: zoe.code(), Transport: "bearer"}).is(201).into(&session)
	assert.Equal(t, "zoe@corp.example", session.User.Email)
	w.clock.Advance(11 * time.Minute)
	idp.At(w.clock.Now())
	away := zoe.post("/profile/sessions/code", url.Values{}).continues()
	zoe.get(zoe.atProvider(away, "zoe")).leadsTo("/profile/sessions/code")
	zoe.code()
}
