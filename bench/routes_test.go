package bench_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/models"
	"patrol/policies/engine"
)

// maxRoutesRatio is the bar: how much more it may cost to find a route among a
// thousand than among fifty.
const maxRoutesRatio = 2

// withRoutes loads the default policy with n routes instead of its own, of every
// form there is, all under one first segment.
func withRoutes(b *testing.B, n int) *engine.Snapshot {
	b.Helper()
	var routes strings.Builder
	for i := range n {
		path := fmt.Sprintf([...]string{"/svc/r%d", "/svc/r%d/*", "/svc/*/r%d/**", "/svc/*/r%d"}[i%4], i)
		fmt.Fprintf(&routes, "%q: {entity_type: models, operation: read}\n", "GET "+path)
	}
	source, err := bundles.Open(b.Context(), "")
	require.NoError(b, err)
	source.Files = maps.Clone(source.Files)
	source.Files["patrol/routes/data.yaml"] = []byte(routes.String())
	s, err := engine.Load(b.Context(), source, engine.WithRecall(0))
	require.NoError(b, err)
	return s
}

// BenchmarkRoutes holds that it does not matter how many routes there are. Few and
// many are measured in turns.
func BenchmarkRoutes(b *testing.B) {
	few, many := withRoutes(b, 50), withRoutes(b, 1000)
	for name, path := range map[string]string{
		"plain": "/svc/r0", "star": "/svc/r1/x", "stars": "/svc/x/r2/y/z", "none": "/svc/none/of/them",
	} {
		b.Run(name, func(b *testing.B) {
			r := models.HTTPRequest{Method: "GET", Path: path, Segments: strings.Split(path[1:], "/")}
			ask := func(s *engine.Snapshot) time.Duration {
				const calls = 50
				begin := time.Now()
				for range calls {
					if _, ok, err := s.Route(b.Context(), r); err != nil || ok == (name == "none") {
						b.Fatal(ok, err)
					}
				}
				return time.Since(begin) / calls
			}
			ask(few)
			ask(many)
			var ofFew, ofMany []time.Duration
			for b.Loop() {
				ofFew, ofMany = append(ofFew, ask(few)), append(ofMany, ask(many))
			}
			slices.Sort(ofFew)
			slices.Sort(ofMany)
			a, z := ofFew[len(ofFew)/2], ofMany[len(ofMany)/2]
			ratio := float64(z) / float64(a)
			b.ReportMetric(0, "ns/op") // an iteration is many calls of both
			b.ReportMetric(float64(a), "ns/50-routes")
			b.ReportMetric(float64(z), "ns/1000-routes")
			b.ReportMetric(ratio, "ratio")
			if b.N > 1 && ratio > maxRoutesRatio {
				b.Errorf("a thousand routes cost %.2f times as much as fifty; at most %d is the bar", ratio, maxRoutesRatio)
			}
		})
	}
}
