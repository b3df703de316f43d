package server_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

const logoutPath = "/login/oidc/backchannel-logout"

// logsOut sends a form as a provider does, and returns the status and the error.
func (w *world) logsOut(form url.Values) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.http.URL+logoutPath, strings.NewReader(form.Encode()))
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := w.http.Client().Do(req)
	require.NoError(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	assert.Equal(w.t, "no-store", resp.Header.Get("Cache-Control"))
	var said api.OAuthError
	if resp.StatusCode == http.StatusBadRequest {
		require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&said))
		assert.Equal(w.t, "invalid_request", said.Error)
	}
	return resp.StatusCode, said.Description
}

func TestTheProviderEndsSessions(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w, _ := withProvider(t, dbURL, nil)
		zoe, elsewhere, ann := w.visit(""), w.visit(""), w.visit("ann")
		zoe.comes("zoe").leadsTo("/profile/pats")
		elsewhere.comes("zoe").leadsTo("/profile/pats")
		user := w.byEmail("zoe@corp.example")
		w.users["zoe"] = *user
		_, err := w.store.SetMember(t.Context(), by, models.Membership{UserID: user.ID, Domain: "acme", Role: "member"})
		require.NoError(t, err)
		var program api.Session
		w.as("").post("/api/v1/session", api.SignIn{Code: zoe.code(), Transport: "bearer"}).is(201).into(&program)
		w.sessions["zoe"] = program.SessionToken
		pat := w.pat("zoe", "ci", "acme:models:*:read")
		unused := zoe.code()

		// zoe signs out here, and follows the link to the provider.
		logout := ""
		page := zoe.post("/logout", url.Values{}).is(http.StatusOK)
		for n := range page.doc.Descendants() {
			if n.Data == "a" && strings.Contains(attr(n, "href"), "/session/end") {
				logout = attr(n, "href")
			}
		}
		require.NotEmpty(t, logout)
		w.with(program.SessionToken).get("/api/v1/me").is(200)
		zoe.endsAtProvider(logout)

		w.with(program.SessionToken).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		w.as("").post("/api/v1/session", api.SignIn{Code: unused, Transport: "bearer"}).problem(401, models.CodeBadCredentials)
		elsewhere.get("/profile/pats").is(200)
		ann.get("/profile/pats").is(200)
		assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed, "tokens stay")
	})
}

// endsAtProvider goes through the provider's own sign-out.
func (v *visitor) endsAtProvider(address string) {
	v.w.t.Helper()
	resp, doc := v.raw(http.MethodGet, address, nil)
	require.Equal(v.w.t, http.StatusOK, resp.StatusCode)
	form, action := url.Values{"logout": {"yes"}}, ""
	for n := range doc.Descendants() {
		switch {
		case n.Type == html.ElementNode && n.Data == "form":
			action = attr(n, "action")
		case n.Type == html.ElementNode && n.Data == "input" && attr(n, "name") != "":
			form.Set(attr(n, "name"), attr(n, "value"))
		}
	}
	require.NotEmpty(v.w.t, action)
	resp, _ = v.raw(http.MethodPost, action, form)
	require.Equal(v.w.t, http.StatusSeeOther, resp.StatusCode)
}

// TestLogoutTokens sends tokens that a provider should not send, and some that it may.
func TestLogoutTokens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	base := "http://" + listener.Addr().String()
	idp := newHostileProvider(t, nil)
	w := &world{t: t, listener: listener}
	w.start(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL, c.OIDC.Issuer, c.OIDC.ClientID = base, idp.issuer, "patrol"
	})
	w.populate()
	ann := w.users["ann"].ID
	require.NoError(t, w.store.LinkIdentity(t.Context(), by, ann, idp.issuer, "ann"))
	const event = "http://schemas.openid.net/event/backchannel-logout"
	now := w.clock.Now().Unix()
	good := func(jti string) map[string]any {
		return map[string]any{
			"iss": idp.issuer, "aud": "patrol", "iat": now, "exp": now + 120, "jti": jti, "sub": "ann", "sid": "s1",
			"events": map[string]any{event: map[string]any{}},
		}
	}
	rs256 := func(key int) func(string) []byte {
		return func(text string) []byte {
			sum := sha256.Sum256([]byte(text))
			sig, err := rsa.SignPKCS1v15(rand.Reader, idp.keys[key], crypto.SHA256, sum[:])
			require.NoError(t, err)
			return sig
		}
	}
	head := map[string]any{"alg": "RS256", "kid": "k1", "typ": "logout+jwt"}
	type change = map[string]any
	without := "remove this claim"
	type logoutCase struct {
		claims, head change
		key          int
		sign         func(string) []byte
		raw          func(string) string
		ok           bool
	}
	cases := map[string]logoutCase{
		"good":                       {ok: true},
		"typ JWT":                    {head: change{"typ": "JWT"}, ok: true},
		"typ in full":                {head: change{"typ": "application/logout+JWT"}, ok: true},
		"no typ":                     {head: change{"typ": nil}, ok: true},
		"several audiences":          {claims: change{"aud": []string{"other", "patrol"}}, ok: true},
		"sid alone":                  {claims: change{"sub": without}, ok: true},
		"sub alone":                  {claims: change{"sid": without}, ok: true},
		"an unknown subject":         {claims: change{"sub": "nobody"}, ok: true},
		"more events and claims":     {claims: change{"events": change{event: change{"x": 1}, "other": change{}}, "x": 1}, ok: true},
		"exp a moment ago":           {claims: change{"exp": now - 30}, ok: true},
		"another kind of token":      {head: change{"typ": "at+jwt"}},
		"typ that is no text":        {head: change{"typ": []string{"logout+jwt"}}},
		"another issuer":             {claims: change{"iss": idp.issuer + "/"}},
		"another audience":           {claims: change{"aud": "other"}},
		"no audience":                {claims: change{"aud": without}},
		"no iat":                     {claims: change{"iat": without}},
		"iat that is a text":         {claims: change{"iat": "1"}},
		"iat in the future":          {claims: change{"iat": now + 3600, "exp": now + 7200}},
		"iat long ago":               {claims: change{"iat": now - 3600}},
		"no exp":                     {claims: change{"exp": without}},
		"exp over":                   {claims: change{"exp": now - 120}},
		"nbf in the future":          {claims: change{"nbf": now + 3600}},
		"nbf that is a text":         {claims: change{"nbf": "soon"}},
		"no jti":                     {claims: change{"jti": without}},
		"jti that is a number":       {claims: change{"jti": 7}},
		"a long jti":                 {claims: change{"jti": strings.Repeat("j", 300)}},
		"no events":                  {claims: change{"events": without}},
		"events that is a list":      {claims: change{"events": []string{event}}},
		"events that is a text":      {claims: change{"events": event}},
		"another event":              {claims: change{"events": change{"http://schemas.openid.net/event/other": change{}}}},
		"an event that is no object": {claims: change{"events": change{event: true}}},
		"an event that is null":      {claims: change{"events": change{event: nil}}},
		"a nonce":                    {claims: change{"nonce": "n"}},
		"an empty nonce":             {claims: change{"nonce": ""}},
		"neither sub nor sid":        {claims: change{"sub": without, "sid": without}},
		"an empty sub":               {claims: change{"sub": ""}},
		"sub that is a list":         {claims: change{"sub": []string{"ann"}}},
		"sid that is a number":       {claims: change{"sid": 1}},
		"an empty sid":               {claims: change{"sid": ""}},
		"another key":                {key: 1},
		"a key nobody knows":         {head: change{"kid": "k9"}, key: 1},
		"no signature":               {head: change{"alg": "none"}, sign: func(string) []byte { return nil }},
		"the public key as a secret": {head: change{"alg": "HS256"}, sign: func(text string) []byte {
			m := hmac.New(sha256.New, idp.keys[0].N.Bytes())
			m.Write([]byte(text))
			return m.Sum(nil)
		}},
		"an algorithm not promised": {head: change{"alg": "RS512"}},
		"its own key in the header": {head: change{"jku": "http://evil.example/keys"}, key: 1},
		"cut":                       {raw: func(s string) string { return s[:len(s)-2] }},
		"no token":                  {raw: func(string) string { return "" }},
		"no JWT":                    {raw: func(string) string { return "x.y.z" }},
		"a token and more":          {raw: func(s string) string { return s + ".x" }},
		"larger than any":           {raw: func(s string) string { return s + strings.Repeat("A", 40<<10) }},
	}
	signedWith := func(name string, c logoutCase) string {
		header, claims := maps.Clone(head), good(name)
		maps.Copy(header, c.head)
		maps.Copy(claims, c.claims)
		maps.DeleteFunc(header, func(_ string, v any) bool { return v == nil })
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == without })
		sign := c.sign
		if sign == nil {
			sign = rs256(c.key)
		}
		text := signed(t, header, claims, sign)
		if c.raw != nil {
			text = c.raw(text)
		}
		return text
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w.clock.Advance(time.Minute + time.Second) // what was refused from an address is forgotten
			now = w.clock.Now().Unix()
			for _, claim := range []string{"iat", "exp", "nbf"} { // those of the table are relative to its start
				if at, ok := c.claims[claim].(int64); ok {
					c.claims[claim] = at - start(w) + now
				}
			}
			text := signedWith(name, c)
			status, why := w.logsOut(url.Values{"logout_token": {text}, "other": {"x"}})
			if !c.ok {
				assert.Equal(t, http.StatusBadRequest, status)
				assert.NotEmpty(t, why)
				if text != "" {
					assert.NotContains(t, w.logs.String(), text)
				}
				return
			}
			require.Equal(t, http.StatusOK, status, why)
			if name != "an unknown subject" {
				status, why = w.logsOut(url.Values{"logout_token": {text}})
				assert.Equal(t, http.StatusBadRequest, status, "once")
				assert.Contains(t, why, "jti")
			}
		})
	}
	w.clock.Advance(time.Minute + time.Second)
	now = w.clock.Now().Unix()
	text := signedWith("twice in one form", cases["good"])
	for name, form := range map[string]url.Values{"twice": {"logout_token": {text, text}}, "nothing": {}, "another field": {"id_token": {text}}} {
		status, _ := w.logsOut(form)
		assert.Equal(t, http.StatusBadRequest, status, name)
	}
	// A repeated claim, in any case, says two things.
	for _, twice := range []string{`"sub":"eve"`, `"SUB":"eve"`, `"ſub":"eve"`, `"events":{}`} {
		w.clock.Advance(time.Minute)
		now = w.clock.Now().Unix()
		claims, err := json.Marshal(good("repeated " + twice))
		require.NoError(t, err)
		h, err := json.Marshal(head)
		require.NoError(t, err)
		body := b64(h) + "." + b64([]byte(strings.TrimSuffix(string(claims), "}")+","+twice+"}"))
		status, why := w.logsOut(url.Values{"logout_token": {body + "." + b64(rs256(0)(body))}})
		assert.Equal(t, http.StatusBadRequest, status, twice)
		_ = why
	}
	// Who sends many is told to wait, before anything is verified.
	w.clock.Advance(time.Minute + time.Second)
	for range 30 {
		w.logsOut(url.Values{"logout_token": {"x.y.z"}})
	}
	status, _ := w.logsOut(url.Values{"logout_token": {"x.y.z"}})
	assert.Equal(t, http.StatusTooManyRequests, status)
	events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "session.logout_refuse"}, store.Page{Limit: 200})
	require.NoError(t, err)
	assert.NotEmpty(t, events)
	assert.Less(t, len(events), 60, "a flood is one event a minute")
}

// start is the time at which the clocks of tests begin, in Unix seconds.
func start(*world) int64 { return server.NewClock().Now().Unix() }
