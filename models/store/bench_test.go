package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// databases are the databases by name, for benchmarks and tests that make
// several at once.
var databases = map[string]func(testing.TB) string{"sqlite": testenv.SQLite, "postgres": testenv.Postgres}

// benchWorld is a user with a membership and a token of ten scopes, among a
// thousand others.
func benchWorld(b *testing.B, url string) (*store.Store, models.PAT) {
	ctx := context.Background()
	s := storetest.New(b, url, func(c *store.Config) { c.Limits.MaxLive = 2000 })
	u, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(b, err)
	_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(b, err)
	_, err = s.SetMember(ctx, models.Actor{}, models.Membership{UserID: u.ID, Domain: "acme", Role: "member"})
	require.NoError(b, err)
	var p models.PAT
	for i := range 1000 {
		p, err = s.CreatePAT(ctx, models.Actor{}, benchPAT(u.ID, fmt.Sprint("token ", i)))
		require.NoError(b, err)
	}
	return s, p
}

func benchPAT(userID, name string) models.PAT {
	p := models.PAT{
		ID: models.NewID(), UserID: userID, Name: name, KeyID: "k", MAC: make([]byte, 32),
		ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Second),
	}
	for i := range 10 {
		p.Scopes = append(p.Scopes, models.Scope{Domain: "acme", EntityType: "models", Entity: fmt.Sprint("model-", i), Operation: "read"})
	}
	return p
}

func BenchmarkRead(b *testing.B) {
	for name, url := range databases {
		s, p := benchWorld(b, url(b))
		end, err := s.FeedEnd(b.Context())
		require.NoError(b, err)
		for _, read := range []struct {
			name string
			read func(context.Context) error
		}{
			{"PAT", func(ctx context.Context) error { _, err := s.PAT(ctx, p.ID); return err }},
			{"User", func(ctx context.Context) error { _, err := s.User(ctx, p.UserID); return err }},
			{"Domain", func(ctx context.Context) error { _, err := s.Domain(ctx, "acme"); return err }},
			{"Membership", func(ctx context.Context) error { _, err := s.Membership(ctx, p.UserID, "acme"); return err }},
			{"Absent", func(ctx context.Context) error { _, err := s.PAT(ctx, "0000000000000000"); return err }},
			{"NoChanges", func(ctx context.Context) error { _, err := s.Changes(ctx, end, 100); return err }},
			{"DataVersion", func(ctx context.Context) error { _, _, err := s.DataVersion(ctx); return err }},
			{"List", func(ctx context.Context) error {
				_, _, err := s.PATs(ctx, store.PATFilter{UserID: p.UserID}, store.Page{})
				return err
			}},
		} {
			b.Run(name+"/"+read.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := read.read(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkCreatePAT(b *testing.B) {
	for name, url := range databases {
		s, p := benchWorld(b, url(b))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() { // and revoked, so that the limit of live tokens stays far
				created, err := s.CreatePAT(b.Context(), models.Actor{}, benchPAT(p.UserID, "bench"))
				if err == nil {
					_, err = s.RevokePAT(b.Context(), models.Actor{}, p.UserID, created.ID)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAddDecisions writes batches as the decision log does; its number is the
// time for one decision.
func BenchmarkAddDecisions(b *testing.B) {
	for name, url := range databases {
		b.Run(name, func(b *testing.B) {
			d := openLog(b, url(b), nil)
			var facts []*models.Fact
			for i := range 1000 {
				facts = append(facts, models.NewFact(fmt.Sprintf(`{"id":"%016d"}`, i)))
			}
			const size = 2048
			batch := make([]models.LoggedDecision, size)
			at := time.Now()
			for b.Loop() {
				for i := range batch {
					at = at.Add(50 * time.Microsecond)
					batch[i] = madeAt(at, func(l *models.LoggedDecision) {
						l.Input.Token, l.Input.Context = facts[i%1000], ""
						l.TokenID, l.UserID = fmt.Sprintf("%016d", i%1000*7919%1000), fmt.Sprintf("%016d", i%20)
					})
				}
				if err := d.Add(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/decision")
		})
	}
}
