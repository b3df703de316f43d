package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// TestEveryRouteIsInTheTable walks the router: what it serves is in the table,
// with a caller, and what is in the table is served.
func TestEveryRouteIsInTheTable(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	table := map[string]string{}
	for _, r := range server.Routes() {
		require.NotEmpty(t, r.By, "%s %s names no caller", r.Method, r.Path)
		table[r.Method+" "+r.Path] = r.By
	}
	served := map[string]bool{}
	for _, r := range w.server.GinRoutes() {
		method := r.Method
		if method == http.MethodHead { // comes with every GET
			method = http.MethodGet
		}
		served[method+" "+r.Path] = true
		assert.Contains(t, table, method+" "+r.Path)
	}
	for _, r := range server.Routes() {
		if r.Mount {
			assert.False(t, served[r.Method+" "+r.Path], "a mount is served outside of the router")
			want := 401
			if r.By == "askingProxy" {
				want = 404 // no proxy is configured here
			}
			w.as("").send("GET", strings.Replace(r.Path, "*path", "acme/v1/models", 1), nil).is(want)
			continue
		}
		assert.True(t, served[r.Method+" "+r.Path], "%s %s is not served", r.Method, r.Path)
	}
}

func TestARouteWithoutACallerStopsTheProgram(t *testing.T) {
	assert.PanicsWithValue(t, "the route GET /new does not name who may call it", server.RouteWithoutCaller)
}

// admitted stands for any answer that a caller gets who was let in: the request
// itself may still be wrong.
const admitted = 0

// whoMayCall maps the table's callers to the people and programs that may call.
// ann owns the token and is a member of the domain, dom is its admin, root is a
// platform admin, pol is of the policy team, eve is signed in and nothing else.
var whoMayCall = map[string]map[string]int{
	"anyone":      {"nobody": admitted, "garbage": admitted, "a PAT": admitted, "eve": admitted, "ann": admitted, "dom": admitted, "pol": admitted, "root": admitted},
	"tokenHolder": {"nobody": admitted, "garbage": admitted, "a PAT": admitted, "eve": admitted, "ann": admitted, "dom": admitted, "pol": admitted, "root": admitted},
	"patItself":   {"nobody": 401, "garbage": 401, "a PAT": admitted, "eve": 401, "ann": 401, "dom": 401, "pol": 401, "root": 401},
	"session":     {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": admitted, "ann": admitted, "dom": admitted, "pol": admitted, "root": admitted},
	"owner":       {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 404, "ann": admitted, "dom": 404, "pol": 404, "root": 404},
	"ownerFresh":  {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 404, "ann": admitted, "dom": 404, "pol": 404, "root": 404},

	"ownerOrPlatformAdmin":    {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 404, "ann": admitted, "dom": 404, "pol": 404, "root": admitted},
	"thatUserOrPlatformAdmin": {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": admitted, "ann": 404, "dom": 404, "pol": 404, "root": admitted}, // the path names eve

	"domainReader":  {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 404, "ann": admitted, "dom": admitted, "pol": 404, "root": admitted},
	"domainAdmin":   {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 404, "ann": 403, "dom": admitted, "pol": 404, "root": admitted},
	"platformAdmin": {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 403, "ann": 403, "dom": 403, "pol": 403, "root": admitted},
	"bundleReader":  {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 403, "ann": 403, "dom": 403, "pol": admitted, "root": admitted},
	"policyTeam":    {"nobody": 401, "garbage": 401, "a PAT": 403, "eve": 403, "ann": 403, "dom": 403, "pol": admitted, "root": admitted},
}

// bodies are requests that get past validation, so that another's thing is looked
// for and not found.
var bodies = map[string]string{
	"PATCH /api/v1/pats/:id":                    `{"description":"x"}`,
	"POST /api/v1/pats/:id/rotate":              `{"expires_in":"1h"}`,
	"POST /api/v1/pats/:id/narrow":              `{"scopes":[{"domain":"acme","entity_type":"models","entity":"*","operation":"read"}]}`,
	"POST /api/v1/pats/:id/scopes":              `{"domain":"acme","entity_type":"models","entity":"m","operation":"read"}`,
	"PUT /api/v1/domains/:id/members/:user":     `{"role":"viewer"}`,
	"PUT /api/v1/domains/:id/limits":            `{"wildcards":true,"approval":false}`,
	"POST /api/v1/domains/:id/pats/:pat/revoke": `{"reason":"x"}`,

	"PUT /api/v1/domains/:id/pats/:pat/withdrawal": `{"reason":"x"}`,
}

func TestWhoMayCallEveryRoute(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	const decision = "a-decision"
	require.NoError(t, w.decided.Add(t.Context(), []models.LoggedDecision{{Decision: models.Decision{ID: decision, Allowed: true}}}))
	for _, r := range server.Routes() {
		if r.Mount || strings.HasPrefix(r.Path, "/setup") {
			continue // see the tests of these
		}
		if r.Page {
			continue // see TestWhoMayOpenEveryPage
		}
		t.Run(r.Method+" "+r.Path, func(t *testing.T) {
			pat := w.pat("ann", "ci", "acme:models:*:read")
			defer w.store.RevokeAll(t.Context(), by, w.users["ann"].ID) //nolint:errcheck // the next create fails if this does
			id := map[bool]string{true: "acme", false: pat.ID}[strings.Contains(r.Path, "domains")]
			if strings.Contains(r.Path, "users") {
				id = w.users["eve"].ID
			}
			target := strings.NewReplacer(":identity", "IDENTITY", ":id", id, ":pat", pat.ID, ":user", w.users["ann"].ID, ":scope", pat.Scopes[0].ID, ":decision", decision).Replace(r.Path)
			var body any
			if r.Method != http.MethodGet && r.Method != http.MethodDelete {
				body = `{}`
				if b := bodies[r.Method+" "+r.Path]; b != "" {
					body = b
				}
			}
			try := func(who string) *answer {
				target := target
				if strings.Contains(target, "IDENTITY") { // one that is theirs, or eve's
					owner := who
					if strings.Contains(target, "/users/") {
						owner = "eve"
					}
					if user, known := w.users[owner]; known {
						require.NoError(t, w.store.LinkIdentity(t.Context(), by, user.ID, otherIssuer, owner))
						defer delete(w.sessions, owner)
					}
					target = strings.Replace(target, "IDENTITY", models.Identity{Issuer: otherIssuer, Subject: owner}.ID(), 1)
				}
				w.member("ann", "acme", "member") // one of the routes takes her out
				switch who {
				case "nobody":
					return w.as("").send(r.Method, target, body)
				case "garbage":
					return w.with(flip(pat.Token)).send(r.Method, target, body)
				case "a PAT":
					return w.with(pat.Token).send(r.Method, target, body)
				}
				defer func() {
					switch r.Method + r.Path {
					case "DELETE/api/v1/session":
						delete(w.sessions, who)
					case "DELETE/api/v1/users/:id/sessions": // eve's
						delete(w.sessions, "eve")
					}
				}()
				return w.as(who).send(r.Method, target, body)
			}
			expect := whoMayCall[r.By]
			require.Len(t, expect, 8, "what does %s mean?", r.By)
			own := !strings.Contains(r.Path, ":id") && strings.HasPrefix(r.By, "owner")
			for _, refused := range []bool{true, false} { // those let in may change things
				for who, status := range expect {
					if own && status == 404 {
						status = admitted // no thing of anybody's is named
					}
					if (status != admitted) != refused {
						continue
					}
					a := try(who)
					if refused {
						assert.Equal(t, status, a.status, "%s: %s", who, a.body)
						continue
					}
					if strings.HasPrefix(r.Path, "/.well-known/") {
						assert.Equal(t, 404, a.status, "there is no public address here; see TestAccessMetadata and TestOAuthMetadata")
						continue
					}
					if r.By != "tokenHolder" && r.Path != "/api/v1/session" && r.Path != "/login/oidc/backchannel-logout" {
						assert.NotContains(t, []int{401, 403, 404, 405, 500}, a.status, "%s: %s", who, a.body)
					}
				}
			}
		})
	}
}

// flip changes one character of a token's secret.
func flip(token string) string {
	b := []byte(token)
	i := len("patrol_") + models.IDLength + 3
	if b[i] == 'x' {
		b[i] = 'y'
	} else {
		b[i] = 'x'
	}
	return string(b)
}

func TestAPATManagesNothing(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("root", "all", "*:models:*:read", "*:models:*:write", "*:domains:*:write")
	for _, r := range server.Routes() {
		if !strings.HasPrefix(r.Path, "/api/v1/") || r.By == "anyone" || r.By == "patItself" {
			continue
		}
		a := w.with(pat.Token).send(r.Method, strings.NewReplacer(":id", pat.ID, ":user", "x", ":scope", "x").Replace(r.Path), nil)
		a.problem(403, models.CodeSessionRequired)
	}
	var self api.PAT
	w.with(pat.Token).get("/api/v1/pats/self").is(200).into(&self)
	assert.Equal(t, pat.ID, self.ID)
	assert.Empty(t, self.Token)
	w.with(pat.Token).delete("/api/v1/pats/self").is(204)
	assert.Equal(t, `Bearer realm="patrol", error="invalid_token"`, w.with(pat.Token).get("/api/v1/pats/self").is(401).header.Get("WWW-Authenticate"))
}

func TestWideningNeedsARecentSignIn(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.clock.Advance(10*time.Minute + time.Second)
	stale := 0
	for _, r := range server.Routes() {
		if r.By != "ownerFresh" {
			continue
		}
		stale++
		target := strings.Replace(r.Path, ":id", pat.ID, 1)
		w.as("ann").send(r.Method, target, bodies[r.Method+" "+r.Path]).problem(403, models.CodeReauthentication)
	}
	assert.Equal(t, 3, stale, "create, rotate, widen")

	// A change that narrows needs none.
	w.as("ann").post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(200)
	w.as("ann").post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: "wrong password"}).problem(401, models.CodeBadCredentials)
	w.freshen("ann")
	w.pat("ann", "ci", "acme:models:*:read")
}
