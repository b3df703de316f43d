package server_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

func (w *world) setupFile() string { return filepath.Join(w.dir, "data", "setup-code") }

// setupCode starts a first setup and returns the code in the file.
func (w *world) setupCode() string {
	w.t.Helper()
	require.NoError(w.t, w.server.Setup(w.t.Context()))
	info, err := os.Stat(w.setupFile())
	require.NoError(w.t, err)
	require.Equal(w.t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(w.setupFile())
	require.NoError(w.t, err)
	require.Regexp(w.t, "^([A-Z2-7]{5}-){3}[A-Z2-7]{5}\n$", string(text))
	return strings.TrimSpace(string(text))
}

func setupForm(code, email, password string) string {
	return url.Values{"code": {code}, "email": {email}, "name": {"Root"}, "password": {password}}.Encode()
}

func TestSetupByForm(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newEmptyWorld(t, dbURL, nil)
		w.as("").get("/setup").is(404)
		code := w.setupCode()
		logs := w.logs.String()
		assert.Contains(t, logs, w.setupFile())
		assert.Contains(t, logs, "/setup")
		assert.NotContains(t, logs, code)

		page := w.as("").get("/setup").is(200)
		assert.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"))
		assert.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'; script-src 'sha256-")
		assert.NotRegexp(t, `(?i)<script>|style=|<style|onclick|https?://`, string(page.body))

		form := func() *call { return w.as("").set("Content-Type", "application/x-www-form-urlencoded") }
		a := form().post("/setup", setupForm("AAAAA-AAAAA-AAAAA-AAAAA", "root@example.com", password)).is(403)
		assert.Contains(t, string(a.body), "is not the code in the file")
		a = form().post("/setup", setupForm(code, `<b>"x`, "short")).is(422)
		assert.Contains(t, string(a.body), "at least 12 characters")
		assert.Contains(t, string(a.body), "&lt;b&gt;")
		assert.NotContains(t, string(a.body), "short")
		assert.NotContains(t, string(a.body), code, "the code is not shown again")
		form().set("Sec-Fetch-Site", "cross-site").post("/setup", setupForm(code, "root@example.com", password)).is(403)

		done := form().post("/setup", setupForm(" "+strings.ToLower(code)+" ", "Root@example.com", password)).is(201)
		assert.Contains(t, string(done.body), "root@example.com")
		assert.NoFileExists(t, w.setupFile())
		w.as("").get("/setup").is(404)
		form().post("/setup", setupForm(code, "eve@example.com", password)).problem(404, models.CodeNotFound)

		var me api.Me
		w.as("root").get("/api/v1/me").is(200).into(&me)
		assert.True(t, me.Admin)
	})
}

func TestSetupByJSON(t *testing.T) {
	w := newEmptyWorld(t, testenv.SQLite(t), nil)
	in := api.Setup{Code: w.setupCode(), Email: "root@example.com", Name: "Root", Password: password}
	wrong := in
	wrong.Code = "AAAAA-AAAAA-AAAAA-AAAAA"
	w.as("").post("/setup", wrong).problem(403, models.CodeForbidden)
	wrong = in
	wrong.Password = ""
	assert.Equal(t, "password", w.as("").post("/setup", wrong).problem(422, models.CodeInvalid).Errors[0].Field)
	var user api.User
	w.as("").post("/setup", in).is(201).into(&user)
	assert.True(t, user.Admin)
	w.as("").post("/setup", in).problem(404, models.CodeNotFound)
}

func TestSetupMakesOneAdmin(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newEmptyWorld(t, dbURL, nil)
		code := w.setupCode()
		var wg sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		for i := range 4 {
			wg.Go(func() {
				a := w.as("").post("/setup", api.Setup{Code: code, Email: string(rune('a'+i)) + "@example.com", Name: "x", Password: password})
				mu.Lock()
				defer mu.Unlock()
				statuses[a.status]++
			})
		}
		wg.Wait()
		assert.Equal(t, 1, statuses[201], "%v", statuses)
		assert.Equal(t, 3, statuses[404]+statuses[409], "%v", statuses)
		n, err := w.store.CountUsers(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)
	})
}

func TestTheSetupCodeExpires(t *testing.T) {
	w := newEmptyWorld(t, testenv.SQLite(t), nil)
	in := api.Setup{Code: w.setupCode(), Email: "root@example.com", Name: "Root", Password: password}
	w.clock.Advance(30 * time.Minute)
	assert.Contains(t, string(w.as("").get("/setup").is(410).body), "patrol user create --admin")
	assert.Contains(t, w.as("").post("/setup", in).problem(403, models.CodeForbidden).Detail, "expired")

	old := in.Code
	in.Code = w.setupCode() // a restart
	assert.NotEqual(t, old, in.Code)
	w.as("").post("/setup", in).is(201)
}

func TestWrongSetupCodesLockNobodyOut(t *testing.T) {
	w := newEmptyWorld(t, testenv.SQLite(t), nil)
	in := api.Setup{Code: w.setupCode(), Email: "root@example.com", Name: "Root", Password: password}
	wrong := in
	wrong.Code = "x"
	for range 50 {
		w.as("").post("/setup", wrong).is(403)
	}
	w.as("").post("/setup", in).is(201)
}

func TestNoSetupWhereThereAreUsers(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	require.NoError(t, w.server.Setup(t.Context()))
	assert.NoFileExists(t, w.setupFile())
	w.as("").get("/setup").is(404)

	// A user made at the shell in the meantime ends it, too.
	empty := newEmptyWorld(t, testenv.SQLite(t), nil)
	empty.setupCode()
	empty.as("").get("/setup").is(200)
	_, err := empty.store.CreateUser(t.Context(), by, models.User{Email: "root@example.com", Name: "Root", Admin: true})
	require.NoError(t, err)
	empty.as("").get("/setup").is(404)
	assert.NoFileExists(t, empty.setupFile())
}
