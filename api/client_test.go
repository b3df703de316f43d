package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/models"
)

// serving returns a client of a server that answers with handler.
func serving(t *testing.T, handler http.HandlerFunc) *api.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := api.NewClient(server.URL+"/", nil)
	require.NoError(t, err)
	return c
}

func TestClientSendsWhatTheRouteNeeds(t *testing.T) {
	var got []string
	c := serving(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/api/v1/session":
			_, _ = w.Write([]byte(`{"user":{"email":"ada@example.com"},"session_token":"patrols_s"}`))
		case "/api/v1/pats":
			_, _ = w.Write([]byte(`{"items":[],"next":null}`))
		default:
			_, _ = w.Write([]byte(`{}`))
		}
	})
	ctx := t.Context()
	_, err := c.SignIn(ctx, "ada@example.com", "hunter2")
	require.NoError(t, err)
	_, err = c.PATs(ctx, api.PATFilter{Name: "a&b", Status: models.StatusActive})
	require.NoError(t, err)
	_, err = c.PAT(ctx, "../users/x?y")
	require.NoError(t, err)
	_, err = c.Authorize(ctx, "patrol_t", api.AuthorizeItem{})
	require.NoError(t, err)
	require.NoError(t, c.SignOut(ctx))
	assert.Equal(t, []string{
		"POST /api/v1/session ",
		"GET /api/v1/pats?limit=200&name=a%26b&status=active Bearer patrols_s",
		"GET /api/v1/pats/..%2Fusers%2Fx%3Fy Bearer patrols_s",
		"POST /authorize Bearer patrol_t",
		"DELETE /api/v1/session Bearer patrols_s",
	}, got)
}

func TestClientReadsAllPages(t *testing.T) {
	c := serving(t, func(w http.ResponseWriter, r *http.Request) {
		pages := map[string]string{
			"":  `{"items":[{"id":"1"},{"id":"2"}],"next":"x"}`,
			"x": `{"items":[{"id":"3"}],"next":"y"}`,
			"y": `{"items":[],"next":null}`,
		}
		_, _ = w.Write([]byte(pages[r.URL.Query().Get("after")]))
	})
	pats, err := c.PATs(t.Context(), api.PATFilter{})
	require.NoError(t, err)
	require.Len(t, pats, 3)
	assert.Equal(t, "3", pats[2].ID)
}

func TestClientErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		want        string
		code        models.Code
	}{
		"problem":        {409, "application/problem+json", `{"status":409,"code":"already_taken","detail":"the name is taken","title":"Conflict"}`, "the name is taken", models.CodeTaken},
		"no detail":      {404, "application/problem+json", `{"status":404,"code":"not_found","title":"Not Found"}`, "Not Found", models.CodeNotFound},
		"fields":         {422, "application/problem+json; charset=utf-8", `{"status":422,"code":"validation_failed","detail":"x","errors":[{"field":"name","message":"is required"},{"field":"scopes","message":"too many"}]}`, "name: is required; scopes: too many", models.CodeInvalid},
		"server's fault": {500, "application/problem+json", `{"status":500,"code":"internal","detail":"something went wrong","request_id":"r1"}`, "something went wrong (request r1)", models.CodeInternal},
		"another's page": {502, "text/html", "<h1>Bad gateway</h1>", "is this the address of a Patrol server?", ""},
		"redirect":       {302, "text/html", "", "is this the address of a Patrol server?", ""},
		"not JSON":       {200, "text/html", "<h1>hello</h1>", "is this the address of a Patrol server?", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := serving(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/api/v1/me", r.URL.Path, "no redirect is followed")
				w.Header().Set("Content-Type", tc.contentType)
				w.Header().Set("Location", "/elsewhere")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			c.SessionToken = "patrols_hunter2"
			_, err := c.Me(t.Context())
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Equal(t, tc.code != "", api.Is(err, tc.code))
			if e, ok := errors.AsType[*api.Error](err); ok {
				assert.Equal(t, 7*time.Second, e.RetryAfter)
			}
		})
	}
}

func TestClientLimitsAnswers(t *testing.T) {
	c := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range 17 {
			_, _ = w.Write(chunk)
		}
	})
	_, err := c.Me(t.Context())
	assert.ErrorContains(t, err, "too long")
}

func TestClientNamesTheServerItCannotReach(t *testing.T) {
	c, err := api.NewClient("http://127.0.0.1:1", nil)
	require.NoError(t, err)
	_, err = c.SignIn(t.Context(), "ada@example.com", "hunter2")
	require.ErrorContains(t, err, "cannot reach 127.0.0.1:1: dial tcp")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestAuthorizeBatchHoldsTheServerToItsOrder(t *testing.T) {
	c := serving(t, func(w http.ResponseWriter, r *http.Request) {
		var in api.AuthorizeBatch
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&in))
		assert.Nil(t, in.Token, "the token is in the header alone")
		_, _ = w.Write([]byte(`{"decisions":[{"allowed":true}]}`))
	})
	_, err := c.AuthorizeBatch(t.Context(), "patrol_t", make([]api.AuthorizeItem, 2))
	assert.ErrorContains(t, err, "decided 1 of 2")
}

func TestServerAddresses(t *testing.T) {
	for address, private := range map[string]bool{
		"https://patrol.example.com":      true,
		"http://127.0.0.1:8080":           true,
		"http://127.8.8.8":                true,
		"http://[::1]:8080":               true,
		"http://[::ffff:127.0.0.1]":       true,
		"http://localhost:8080":           true,
		"http://patrol.localhost":         true,
		"http://patrol.example.com":       false,
		"http://localhost.example.com":    false,
		"http://127.0.0.1.example.com":    false,
		"http://10.0.0.1":                 false,
		"https://patrol.example.com/base": true,
	} {
		c, err := api.NewClient(address, nil)
		require.NoError(t, err, address)
		assert.Equal(t, private, c.Private(), address)
	}
	for _, address := range []string{"", "patrol.example.com", "ftp://x", "http://", "https://u:hunter2@x", "https://x?a", "https://x#a", "http://%zz"} {
		_, err := api.NewClient(address, nil)
		require.Error(t, err, address)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestAnEmptyIDIsNotSent(t *testing.T) {
	sent := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		sent++
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	c, err := api.NewClient(server.URL, nil)
	require.NoError(t, err)
	for _, id := range []string{"", ".", ".."} {
		ctx := t.Context()
		_, show := c.PAT(ctx, id)
		_, update := c.UpdatePAT(ctx, id, api.PATPatch{})
		_, rotate := c.RotatePAT(ctx, id, api.Rotation{})
		_, narrow := c.NarrowPAT(ctx, id, nil)
		_, revoke := c.RevokePAT(ctx, id)
		_, advise := c.AdvisePAT(ctx, id, 1)
		for _, err := range []error{show, update, rotate, narrow, revoke, advise, c.DeletePAT(ctx, id)} {
			require.ErrorContains(t, err, "nothing was sent")
		}
	}
	require.Zero(t, sent)
	require.NoError(t, c.RevokeAllPATs(t.Context()))
}
