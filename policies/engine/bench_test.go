package engine_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

func BenchmarkLoad(b *testing.B) {
	src := bundle(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		_, err := engine.Load(b.Context(), src)
		require.NoError(b, err)
	}
}

func BenchmarkTokenValue(b *testing.B) {
	p := pat
	for len(p.Scopes) < 10 {
		p.Scopes = append(p.Scopes, models.Scope{ID: models.NewID(), Domain: "acme", EntityType: "models", Entity: models.NewID(), Operation: "read"})
	}
	b.ReportAllocs()
	for b.Loop() {
		engine.TokenValue(p)
	}
}

func BenchmarkDecideAllow(b *testing.B) { benchmarkDecide(b, readModel, facts(), 0) }

func BenchmarkDecideDeny(b *testing.B) {
	f, req := facts(), readModel
	f.Domain, req.Operation = in(models.DomainIsFrozen), "write"
	benchmarkDecide(b, req, f, 3)
}

func benchmarkDecide(b *testing.B, req models.Request, f engine.Facts, reasons int) {
	b.Helper()
	s := load(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Decide(b.Context(), req, f, now)
		if err != nil || len(d.Reasons) != reasons || d.Allowed != (reasons == 0) {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{50, 1000} {
		s := withRoutes(b, n)
		for _, line := range routedPaths {
			b.Run(fmt.Sprintf("%d routes/%s", n, line), func(b *testing.B) {
				r := asked(line)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := s.Route(b.Context(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkBodyNeed(b *testing.B) {
	s, r := load(b, nil, engine.WithRecall(0)), asked("POST /proxy/acme/v1/chat/completions")
	b.ReportAllocs()
	for b.Loop() {
		if need, _, err := s.BodyNeed(b.Context(), r); err != nil || need == nil {
			b.Fatal(need, err)
		}
	}
}

// BenchmarkRecall measures a request of a kind that was judged before.
func BenchmarkRecall(b *testing.B) {
	s, r := load(b, nil), asked("POST /proxy/acme/v1/chat/completions")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := s.Route(b.Context(), r); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
