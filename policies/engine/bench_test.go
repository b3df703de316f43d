package engine_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
)

func source(t testing.TB) engine.Source {
	src := engine.Source{Name: "embedded", Files: map[string][]byte{}}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			src.Files[p], err = policies.FS.ReadFile(p)
		}
		return err
	}))
	return src
}

var now = time.Unix(1790500000, 0)

func facts() engine.Facts {
	return engine.Facts{
		Token: engine.TokenValue(models.PAT{ID: "t", Name: "ci", CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour), Scopes: []models.Scope{
			{ID: "sc1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}}}),
		User: engine.UserValue(models.User{ID:"u", Email: "e@x.y"}),
		Domain: engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}),
		Membership: engine.MembershipValue(models.Membership{Role: "member"}),
	}
}

func BenchmarkDecideAllow(b *testing.B) {
	s, err := engine.Load(b.Context(), source(b))
	require.NoError(b, err)
	f := facts()
	req := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Decide(b.Context(), req, f, now)
		if err != nil || !d.Allowed {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkDecideDeny(b *testing.B) {
	s, err := engine.Load(b.Context(), source(b))
	require.NoError(b, err)
	f := facts()
	f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainIsFrozen})
	req := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "write"}
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Decide(b.Context(), req, f, now)
		if err != nil || len(d.Reasons) != 3 {
			b.Fatal(d, err)
		}
	}
}
