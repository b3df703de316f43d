package storetest

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// session commits a session as the session manager does.
func (e *env) session(token, userID string, life time.Duration) []byte {
	e.Helper()
	values := map[string]any{"n": 1}
	if userID != "" {
		values[store.SessionUserKey] = userID
	}
	return e.commitSession(token, values, life)
}

func (e *env) commitSession(token string, values map[string]any, life time.Duration) []byte {
	e.Helper()
	data, err := scs.GobCodec{}.Encode(e.clock.Now().Add(life), values)
	require.NoError(e, err)
	require.NoError(e, e.store.Sessions().CommitCtx(e.ctx, hashed(token), data, e.clock.Now().Add(life)))
	return data
}

// begin commits a session of a user that begins with something.
func (e *env) begin(s *store.Store, token, userID string, with store.Beginning) error {
	data, err := scs.GobCodec{}.Encode(e.clock.Now().Add(time.Hour), map[string]any{store.SessionUserKey: userID})
	if err != nil {
		return err
	}
	return s.Sessions().CommitCtx(store.WithBeginning(e.ctx, with), hashed(token), data, e.clock.Now().Add(time.Hour))
}

// endSessions ends sessions of a user in each way.
func (e *env) endSessions(userID string) error {
	sessions := e.store.Sessions()
	return errors.Join(sessions.DeleteByUser(e.ctx, actor, userID, "", "admin"), sessions.DeleteOne(e.ctx, actor, userID, "id", "owner"), sessions.EndWithCode(e.ctx, actor, userID, "id", ""))
}

// hashed is a token as HashTokenInStore turns it.
func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (e *env) hasSession(token string) bool {
	e.Helper()
	_, found, err := e.store.Sessions().FindCtx(e.ctx, hashed(token))
	require.NoError(e, err)
	return found
}

var sessionCases = []testCase{
	{name: "a session lives until it expires", test: func(e *env) {
		data := e.session("s", e.user("ann").ID, time.Minute)
		got, found, err := e.store.Sessions().Find(hashed("s"))
		require.NoError(e, err)
		assert.True(e, found)
		assert.Equal(e, data, got)
		longer := e.session("s", "", 2*time.Minute)
		e.clock.Advance(time.Minute)
		got, found, err = e.another().Sessions().FindCtx(e.ctx, hashed("s"))
		require.NoError(e, err)
		assert.True(e, found)
		assert.Equal(e, longer, got)
		e.clock.Advance(time.Minute)
		assert.False(e, e.hasSession("s"))
		for _, token := range odd {
			_, found, err := e.store.Sessions().FindCtx(e.ctx, token)
			assert.NoError(e, err)
			assert.False(e, found)
		}
	}},
	{name: "data that is no session is refused", test: func(e *env) {
		require.Error(e, e.store.Sessions().Commit("t", []byte("junk"), e.clock.Now().Add(time.Hour)))
	}},
	{name: "an ended session does not come back", test: func(e *env) {
		ann := e.user("ann").ID
		e.session("s", ann, time.Minute)
		require.NoError(e, e.store.Sessions().DeleteCtx(e.ctx, hashed("s")))
		require.NoError(e, e.store.Sessions().Delete(hashed("s")), "again")
		require.NoError(e, e.store.Sessions().Delete("never there"))
		assert.False(e, e.hasSession("s"))
		e.session("s", ann, time.Hour) // a request that was under way
		assert.False(e, e.hasSession("s"))
		e.clock.Advance(2 * time.Minute)
		require.NoError(e, e.store.Sessions().Sweep(e.ctx))
		e.session("s", ann, time.Hour) // nor when it took long
		assert.False(e, e.hasSession("s"))
	}},
	{name: "a user's sessions end together, but for one", test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		for _, token := range []string{"a1", "a2", "a3"} {
			e.session(token, ann, time.Hour)
		}
		e.session("b", bob, time.Hour)
		e.session("nobody's", "", time.Hour)
		require.NoError(e, e.store.Sessions().DeleteByUser(e.ctx, actor, ann, "a2", "test"))
		assert.Equal(e, []bool{false, true, false, true, true},
			[]bool{e.hasSession("a1"), e.hasSession("a2"), e.hasSession("a3"), e.hasSession("b"), e.hasSession("nobody's")})
		require.NoError(e, e.store.Sessions().DeleteByUser(e.ctx, actor, ann, "", "test"))
		assert.False(e, e.hasSession("a2"))
		assert.True(e, e.hasSession("b"))
	}},
	{name: "a user's sessions are listed and ended one by one", test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		soon := e.session("soon", ann, time.Minute)
		late := e.session("late", ann, time.Hour)
		e.session("over", ann, time.Second)
		e.session("ended", ann, time.Hour)
		require.NoError(e, e.store.Sessions().DeleteCtx(e.ctx, hashed("ended")))
		e.session("bob's", bob, time.Hour)
		e.session("nobody's", "", time.Hour)
		at := e.clock.Now()
		e.clock.Advance(time.Second)
		want := []store.StoredSession{
			{ID: hashed("late"), Data: late, ExpiresAt: at.Add(time.Hour)}, {ID: hashed("soon"), Data: soon, ExpiresAt: at.Add(time.Minute)},
		}
		got, err := e.store.Sessions().ByUser(e.ctx, ann)
		require.NoError(e, err)
		assert.Equal(e, want, got, "what ends last comes first")
		assert.Equal(e, store.SessionID("late"), got[0].ID)

		for _, other := range append([]string{bob}, odd...) {
			require.NoError(e, e.store.Sessions().DeleteOne(e.ctx, actor, other, hashed("late"), "test"), "another's")
		}
		for _, id := range append([]string{"late", hashed("never there")}, odd...) {
			require.NoError(e, e.store.Sessions().DeleteOne(e.ctx, actor, ann, id, "test"), "not there")
		}
		assert.True(e, e.hasSession("late"))
		require.NoError(e, e.store.Sessions().DeleteOne(e.ctx, actor, ann, hashed("late"), "test"))
		e.session("late", ann, time.Hour) // a request that was under way
		assert.Equal(e, []bool{false, true, true}, []bool{e.hasSession("late"), e.hasSession("soon"), e.hasSession("bob's")})
		got, err = e.store.Sessions().ByUser(e.ctx, ann)
		require.NoError(e, err)
		assert.Equal(e, want[1:], got)
		for _, key := range odd {
			got, err := e.store.Sessions().ByUser(e.ctx, key)
			require.NoError(e, err)
			assert.Empty(e, got)
		}
	}},
	{name: "disabling a user and a new password end the sessions", test: func(e *env) {
		yes, no, hash, name := true, false, "h", "n"
		for _, c := range []struct {
			name  string
			patch store.UserPatch
			lives bool
		}{
			{"disable", store.UserPatch{Disabled: &yes}, false},
			{"enable", store.UserPatch{Disabled: &no}, true},
			{"password", store.UserPatch{PasswordHash: &hash}, false},
			{"name", store.UserPatch{Name: &name, Admin: &yes}, true},
		} {
			u := e.user(c.name, func(u *models.User) { u.Disabled = c.name == "enable" })
			e.session(c.name, u.ID, time.Hour)
			_, err := e.store.UpdateUser(e.ctx, actor, u.ID, c.patch)
			require.NoError(e, err)
			assert.Equal(e, c.lives, e.hasSession(c.name), c.name)
		}
	}},
	{name: "the sweep takes what expired a while ago", test: func(e *env) {
		e.session("short", "", time.Minute)
		e.session("long", "", 24*time.Hour)
		e.clock.Advance(3 * time.Hour)
		require.NoError(e, e.store.Sessions().Sweep(e.ctx))
		e.clock.Advance(-3 * time.Hour)
		assert.False(e, e.hasSession("short"))
		assert.True(e, e.hasSession("long"))
	}},
	{name: "under a session manager", config: func(c *store.Config) { c.Clock = time.Now }, test: func(e *env) {
		ann := e.user("ann").ID
		manager := scs.New()
		manager.Store, manager.HashTokenInStore = e.store.Sessions(), true
		manager.IdleTimeout = time.Hour
		var token string
		handler := manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/in":
				assert.NoError(e, manager.RenewToken(r.Context()))
				manager.Put(r.Context(), store.SessionUserKey, ann)
				token = manager.Token(r.Context())
			case "/disable": // ends the session under the request's feet
				yes := true
				_, err := e.store.UpdateUser(r.Context(), actor, ann, store.UserPatch{Disabled: &yes})
				assert.NoError(e, err)
			}
			_, err := w.Write([]byte(manager.GetString(r.Context(), store.SessionUserKey)))
			assert.NoError(e, err)
		}))
		var cookies []*http.Cookie
		get := func(path string) string {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			for _, c := range cookies {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			require.Equal(e, http.StatusOK, w.Code)
			response := w.Result()
			require.NoError(e, response.Body.Close())
			if c := response.Cookies(); len(c) > 0 {
				cookies = c
			}
			return w.Body.String()
		}
		assert.Equal(e, ann, get("/in"))
		assert.Equal(e, ann, get("/"))
		require.NoError(e, e.store.Sessions().DeleteByUser(e.ctx, actor, ann, token, "test"))
		assert.Equal(e, ann, get("/"), "but for this one")
		assert.Equal(e, ann, get("/disable"))
		assert.Empty(e, get("/"))
	}},
}
