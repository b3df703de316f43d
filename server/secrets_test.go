package server_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
	"patrol/server/request"
)

// TestNoSecretIsLeftBehind goes through everything that has a secret in it, sends
// the secrets to all the wrong places too, and then looks for them wherever
// Patrol writes: the database, the log, the metrics, the data directory and every
// answer but those that tell a secret.
func TestNoSecretIsLeftBehind(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newEmptyWorld(t, dbURL, func(_ *server.Config, d *server.Deps) {
			d.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				client := request.Client{Target: r.RequestURI, Header: r.Header, RequestID: w.Header().Get("X-Request-Id")}
				request.Refusals{}.Denied(client, request.Refusal{Decision: models.Deny(models.RouteUnmapped)}).WriteTo(w)
			})
		})
		secrets := map[string]string{"keyring": strings.Repeat("\a", 32)}
		var answers strings.Builder // those that must tell nothing
		seen := func(a *answer) *answer {
			fmt.Fprintln(&answers, a.header)
			answers.Write(a.body)
			return a
		}

		code := w.setupCode()
		secrets["setup code"], secrets["password"] = code, "correct horse of the root"
		form := setupForm(code, "root@example.com", "short pass")
		seen(w.as("").set("Content-Type", "application/x-www-form-urlencoded").post("/setup", form).is(422))
		seen(w.as("").post("/setup", api.Setup{Code: code, Email: "root@example.com", Name: "Root", Password: secrets["password"]}).is(201))

		var session api.Session
		signIn := api.SignIn{Email: "root@example.com", Password: secrets["password"], Transport: "bearer"}
		w.as("").post("/api/v1/session", signIn).is(201).into(&session)
		secrets["session token"] = strings.TrimPrefix(session.SessionToken, "patrols_")
		w.sessions["root"] = session.SessionToken
		signIn.Transport = ""
		cookie := cookieOf(t, w.as("").post("/api/v1/session", signIn).is(201))
		secrets["cookie"] = cookie.Value
		renewed := cookieOf(t, w.as("").cookie(cookie).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: secrets["password"]}).is(200))
		secrets["renewed cookie"] = renewed.Value
		secrets["a guess"] = "a guess at the password"
		seen(w.as("").post("/api/v1/session", api.SignIn{Email: "root@example.com", Password: secrets["a guess"]}).is(401))
		secrets["another's password"] = "the password of another"
		seen(w.as("root").post("/api/v1/users", api.NewUser{Email: "zoe@example.com", Name: "Zoe", Password: secrets["another's password"]}).is(201))

		users, _, err := w.store.Users(t.Context(), store.UserFilter{}, store.Page{})
		require.NoError(t, err)
		var reset api.PasswordReset
		w.as("root").post("/api/v1/users/"+users[1].ID+"/password-reset", nil).is(201).into(&reset)
		secrets["reset code"], secrets["reset password"] = reset.Code, "the password after a reset"
		secrets["reset code as it is hashed"] = strings.ReplaceAll(reset.Code, "-", "")
		seen(w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: reset.Code, Password: "short"}).is(422))
		seen(w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: reset.Code, Password: secrets["reset password"]}).is(204))
		seen(w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: reset.Code, Password: secrets["reset password"]}).is(403))

		seen(w.as("root").post("/api/v1/domains", api.NewDomain{ID: "acme", Name: "Acme"}).is(201))
		pat := w.pat("root", "ci", "acme:models:*:read")
		secrets["token"] = pat.Token
		var next api.PAT
		w.as("root").post("/api/v1/pats/"+pat.ID+"/rotate", api.Rotation{ExpiresIn: "1d", Grace: "1h"}).is(200).into(&next)
		secrets["rotated token"] = next.Token

		// Uses, right and wrong.
		for _, token := range []string{pat.Token, next.Token, flip(next.Token)} {
			seen(w.with(token).post("/authorize", `{`+readModels+`}`).is(200))
			seen(w.as("").post("/authorize", `{"token":"`+token+`",`+readModels+`}`).is(200))
			seen(w.with(token).post("/authorize", `{"token":"`+token+`",`+readModels+`}`).is(400))
			seen(w.as("").post("/authorize?token="+token, `{`+readModels+`}`).is(200))
			seen(w.as("").post("/authorize", `{"`+token+`":1}`).is(422))
			seen(w.as("").post("/authorize", `{"`+token+`":1,"`+token+`":2}`).is(422))
			seen(w.as("").post("/authorize", token).is(400))
			seen(w.with(token).set("User-Agent", "agent "+token).get("/api/v1/pats/self"))
			seen(w.with(token).get("/api/v1/me"))
			seen(w.as("").set("X-Request-Id", token).set("X-Forwarded-For", token).get("/nowhere/" + token + "?t=" + token).is(404))
			seen(w.as("").set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x:"+token))).get("/api/v1/me").is(401))
			seen(w.with(token).get("/proxy/acme/" + token + "?key=" + token))
			seen(w.as("root").get("/api/v1/pats/" + token).is(404))
			seen(w.as("root").get("/api/v1/pats?after=" + token).is(422))
			seen(w.as("root").get("/api/v1/pats?status=" + token).is(422))
			seen(w.as("root").get("/api/v1/domains/" + token).is(404))
			seen(w.as("root").post("/api/v1/pats/"+token+"/revoke", nil).is(404))
			seen(w.as("root").send("PUT", "/api/v1/domains/acme/members/"+token, `{"role":"`+token+`"}`).is(422))
			seen(w.as("root").post("/api/v1/pats", `{"name":"x","expires_in":"`+token+`","scopes":[{"domain":"`+token+`","entity_type":"`+token+`","entity":"*","operation":"`+token+`"}]}`).is(422))
			seen(w.as("").post("/api/v1/session", api.SignIn{Email: token, Password: token}))
			seen(w.as("").post("/api/v1/session", api.SignIn{Email: "x@example.com", Password: "x", Transport: token}).is(422))
		}
		seen(w.as("root").get("/api/v1/pats").is(200))
		seen(w.as("root").get("/api/v1/pats/" + next.ID).is(200))
		seen(w.as("root").get("/api/v1/users").is(200))
		require.Eventually(t, func() bool {
			events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "pat:" + pat.ID}, store.Page{})
			return err == nil && len(events) > 1
		}, soon, 20*time.Millisecond, "the use of the retired token is recorded")
		seen(w.with(next.Token).delete("/api/v1/pats/self").is(204))
		seen(w.as("").get("/metrics").is(200))
		seen(w.as("").get("/readyz"))
		seen(w.with(session.SessionToken).delete("/api/v1/session").is(204))

		places := map[string]string{"the log": w.logs.String(), "an answer": answers.String(), "the database": w.dump()}
		maps.Copy(places, filesUnder(t, w.dir))
		require.Contains(t, places["the database"], pat.ID, "the dump has what is in the database")
		for name, secret := range secrets {
			for form, text := range map[string]string{
				"": secret, "in hex ": hex.EncodeToString([]byte(secret)), "in base64 ": base64.StdEncoding.EncodeToString([]byte(secret)), "escaped ": url.QueryEscape(secret),
			} {
				for place, content := range places {
					assert.NotContains(t, content, text, "the %s is %sin %s", name, form, place)
				}
			}
		}
		for _, token := range []string{pat.Token, next.Token} {
			secret := token[len("patrol_")+models.IDLength+1:]
			for place, content := range places {
				assert.NotContains(t, content, secret, "the secret part of a token is in %s", place)
				assert.NotContains(t, content, secret[:20], "a part of a secret is in %s", place)
			}
		}
	})
}

// dump returns the whole content of the database: SQLite's files, or all rows of
// all tables of PostgreSQL as text.
func (w *world) dump() string {
	w.t.Helper()
	if path, ok := strings.CutPrefix(w.dbURL, "sqlite://"); ok {
		var all strings.Builder
		for _, text := range filesUnder(w.t, filepath.Dir(path)) {
			all.WriteString(text)
		}
		return all.String()
	}
	return dumpPostgres(w.t, w.dbURL)
}

func filesUnder(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		out[path] = string(content)
		return err
	}))
	return out
}
