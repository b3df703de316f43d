package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// bare is a server with nothing behind it, and its log.
func bare() (*Server, *bytes.Buffer) {
	var logs bytes.Buffer
	s := &Server{
		cfg: DefaultConfig(), metrics: NewMetrics(), log: slog.New(slog.NewJSONHandler(&logs, nil)),
		random: strings.NewReader(strings.Repeat("0123456789abcdef", 100)),
		places: request.NewPlaces(DefaultConfig().HTTP.MaxInFlight), now: time.Now,
	}
	gin.SetMode(gin.ReleaseMode)
	return s, &logs
}

// answerTo returns the answer of a server whose one route, GET /it, calls do.
func answerTo(t *testing.T, s *Server, do func(*gin.Context) error) (*httptest.ResponseRecorder, api.Problem) {
	t.Helper()
	s.gin = s.newRouter([]endpoint.Route{{Method: "GET", Path: "/it", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: func(c *gin.Context, _ models.Principal) error { return do(c) }}})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/it", nil))
	var p api.Problem
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p), "%s", w.Body)
	}
	return w, p
}

func TestStatusOfEveryCode(t *testing.T) {
	for code, status := range map[models.Code]int{
		models.CodeMalformed: 400, models.CodeInvalid: 422, models.CodeUnauthenticated: 401, models.CodeBadCredentials: 401,
		models.CodeForbidden: 403, models.CodeSessionRequired: 403, models.CodeReauthentication: 403, models.CodeNotFound: 404,
		models.CodeMethodNotAllowed: 405, models.CodeConflict: 409, models.CodeTaken: 409, models.CodeAlreadyRotated: 409,
		models.CodeLastScope: 409, models.CodeTokenAlive: 409, models.CodeLimitReached: 409, models.CodeTooLarge: 413,
		models.CodeMediaType: 415, models.CodeRateLimited: 429, models.CodeUnavailable: 503, models.CodeInternal: 500,
		"a code that nobody knows": 500,
	} {
		t.Run(string(code), func(t *testing.T) {
			s, logs := bare()
			err := models.WrapError(code, "words for the caller", errors.New("the cause: 10.0.0.5 refused"))
			err.Fields = []models.FieldError{{Field: "name", Message: "is required"}}
			err.RotatedTo, err.RetryAfter = "successor", 7
			w, p := answerTo(t, s, func(*gin.Context) error { return fmt.Errorf("while at it: %w", err) })

			require.Equal(t, status, w.Code)
			assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			assert.Equal(t, status, p.Status)
			assert.Equal(t, http.StatusText(status), p.Title)
			assert.Equal(t, "about:blank", p.Type)
			assert.Equal(t, w.Header().Get("X-Request-Id"), p.RequestID)
			assert.Equal(t, status == 401, w.Header().Get("WWW-Authenticate") == `Bearer realm="patrol"`)
			assert.Equal(t, "7", w.Header().Get("Retry-After"))
			assert.NotContains(t, w.Body.String(), "10.0.0.5")
			if status < 500 {
				assert.Equal(t, string(code), p.Code)
				assert.Equal(t, "words for the caller", p.Detail)
				assert.Equal(t, "successor", p.RotatedTo)
				assert.NotContains(t, logs.String(), "10.0.0.5", "a refusal is no incident")
				return
			}
			assert.NotContains(t, p.Detail, "words")
			assert.Contains(t, logs.String(), "10.0.0.5", "the log has the cause")
			assert.Contains(t, logs.String(), p.RequestID, "under the id")
		})
	}
}

func TestDefectsAnswer500(t *testing.T) {
	for name, do := range map[string]func(*gin.Context) error{
		"any other error": func(*gin.Context) error { return errors.New("the secret cause") },
		"a panic":         func(*gin.Context) error { panic("the secret cause") },
		"a panicking header": func(c *gin.Context) error {
			c.Header("ETag", "x")
			panic(errors.New("the secret cause"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, logs := bare()
			w, p := answerTo(t, s, do)
			assert.Equal(t, 500, w.Code)
			assert.Equal(t, "internal", p.Code)
			assert.Empty(t, w.Header().Get("ETag"))
			assert.NotContains(t, w.Body.String(), "secret cause")
			assert.Contains(t, logs.String(), "the secret cause")
			assert.Contains(t, logs.String(), p.RequestID)
		})
	}
	t.Run("after the answer began", func(t *testing.T) {
		s, logs := bare()
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
			answerTo(t, s, func(c *gin.Context) error {
				_, _ = c.Writer.WriteString("half of it")
				c.Writer.Flush()
				panic("the secret cause")
			})
		})
		assert.Contains(t, logs.String(), "the secret cause")
	})
	t.Run("asked to cut", func(t *testing.T) {
		s, logs := bare()
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
			answerTo(t, s, func(*gin.Context) error { panic(http.ErrAbortHandler) })
		})
		assert.NotContains(t, logs.String(), "panicked")
	})
}

func TestAClientThatLeftIsNoIncident(t *testing.T) {
	s, logs := bare()
	s.gin = s.newRouter([]endpoint.Route{{Method: "GET", Path: "/it", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: func(c *gin.Context, _ models.Principal) error {
		return fmt.Errorf("read: %w", c.Request.Context().Err())
	}}})
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/it", nil).WithContext(ctx))
	assert.Equal(t, 503, w.Code)
	assert.NotContains(t, logs.String(), "ERROR")
}

// TestMounted says which targets are the forward-auth handler's, by the path as it was sent.
func TestMounted(t *testing.T) {
	s, _ := bare()
	s.forward = http.NotFoundHandler()
	routes := s.routes()
	for i := range routes {
		if routes[i].Mount {
			s.mounts = append(s.mounts, &routes[i])
		}
	}
	for target, want := range map[string]bool{
		"/forward-auth": true, "/forward-auth?domain=a": true, "/forward-auth/": true, "/forward-auth/a//b": true,
		"/forward-authx": false, "/forward%2Dauth": false, "//forward-auth": false, "/": false,
	} {
		u, err := url.ParseRequestURI(target)
		require.NoError(t, err)
		m, _ := s.mounted(&http.Request{URL: u})
		assert.Equal(t, want, m != nil, target)
	}
}
