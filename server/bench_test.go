package server_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server"
)

// answerWriter is a ResponseWriter that keeps nothing but the status.
type answerWriter struct {
	header http.Header
	status int
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
func (w *answerWriter) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkAuthorize measures POST /authorize without a connection, next to a Gin
// handler that reads the same body and answers a constant of the same size, and
// to the bare evaluation. What Patrol adds is the first less the other two.
func BenchmarkAuthorize(b *testing.B) {
	var w world
	w.start(b, testenv.SQLite(b), func(_ *server.Config, d *server.Deps) {
		d.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // records are formatted from info on, as in production
	})
	ann, err := w.store.CreateUser(b.Context(), by, models.User{Email: "ann@example.com", Name: "ann"})
	require.NoError(b, err)
	_, err = w.store.CreateDomain(b.Context(), by, models.Domain{ID: "acme", Name: "Acme", Status: models.DomainEnabled})
	require.NoError(b, err)
	_, err = w.store.SetMember(b.Context(), by, models.Membership{UserID: ann.ID, Domain: "acme", Role: "member"})
	require.NoError(b, err)
	token, err := models.Mint(rand.Reader)
	require.NoError(b, err)
	mac, key := w.keys.Sum(token)
	record := models.PAT{
		ID: token.ID, UserID: ann.ID, Name: "ci", KeyID: key, MAC: mac, ExpiresAt: w.clock.Now().Add(time.Hour),
		Scopes: []models.Scope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
	}
	record, err = w.store.CreatePAT(b.Context(), by, record)
	require.NoError(b, err)

	body := []byte(`{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"}`)
	request := func(r *http.Request) *http.Request {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		return r
	}
	base := httptest.NewRequest(http.MethodPost, "/authorize", nil)
	base.Header.Set("Content-Type", "application/json")
	base.Header.Set("Authorization", "Bearer "+token.Reveal())

	recorded := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorded, request(base))
	require.Contains(b, recorded.Body.String(), `"allowed":true`)
	constant := recorded.Body.Bytes()

	run := func(b *testing.B, h http.Handler) {
		b.ReportAllocs()
		out := &answerWriter{header: http.Header{}}
		for b.Loop() {
			clear(out.header)
			h.ServeHTTP(out, request(base))
		}
		require.Equal(b, 200, out.status)
	}
	b.Run("patrol", func(b *testing.B) { run(b, w.server.Handler()) })
	b.Run("constant", func(b *testing.B) {
		router := gin.New()
		router.POST("/authorize", func(c *gin.Context) {
			_, _ = io.Copy(io.Discard, c.Request.Body)
			c.Data(http.StatusOK, "application/json; charset=utf-8", constant)
		})
		run(b, router)
	})
	b.Run("evaluation", func(b *testing.B) {
		snapshot := w.policy.Engine().Current()
		facts := engine.Facts{
			Token: engine.TokenValue(record), User: engine.UserValue(ann),
			Domain:     engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}),
			Membership: engine.MembershipValue(models.Membership{Role: "member"}),
		}
		req := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
		b.ReportAllocs()
		for b.Loop() {
			d, err := snapshot.Decide(b.Context(), req, facts, w.clock.Now())
			if err != nil || !d.Allowed {
				b.Fatal(d, err)
			}
		}
	})
}
