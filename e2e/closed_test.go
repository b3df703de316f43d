package e2e_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/extauthz"
	"patrol/server/forwardauth"
)

// An Envoy that lets requests pass when Patrol does not answer is not given the
// occasion: whatever is wrong behind Patrol, it answers, and in time.
func TestNothingPassesWhileNothingCanBeDecided(t *testing.T) {
	open := []string{"failure_mode_allow: false", "failure_mode_allow: true"}
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		up := newUpstream(t)
		p := openPatrol(t, database, up.url, options{uncached: true, extauthz: func(c *extauthz.Config) {
			c.Timeout, c.MaxInFlight = extauthz.DefaultConfig().Timeout, 8
		}, forwardauth: func(c *forwardauth.Config) { c.Timeout, c.MaxInFlight = forwardauth.DefaultConfig().Timeout, 8 }})
		addrs := map[string]string{
			onEnvoyGRPC: startEnvoy(t, "envoy.yaml", "10000", p.grpc, up.addr, open...),
			onEnvoyHTTP: startEnvoy(t, "envoy-http.yaml", "10001", p.forward[forwardauth.Envoy], up.addr, open...),
			// They have no such setting; 503 is what they must make of it.
			onNginx:   startNginx(t, p.forward[forwardauth.Nginx], up.addr),
			onCaddy:   startCaddy(t, p.forward[forwardauth.Caddy], up.addr),
			onHAProxy: startHAProxy(t, p.forward[forwardauth.HAProxy], up.addr),
		}
		// The setting does what it says when Patrol is not there at all: otherwise
		// this test would prove nothing.
		t.Run("the setting is in force", func(t *testing.T) {
			addr := startEnvoy(t, "envoy.yaml", "10000", "127.0.0.1:"+freePort(t), up.addr, open...)
			res := exchange(t, addr, "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": open"}, "")
			require.Equal(t, http.StatusOK, res.status)
			require.Len(t, up.take("open"), 1)
		})
		n := 0
		ask := func(t *testing.T, surface string) (status, arrived int) {
			t.Helper()
			n++
			id := "closed-" + strconv.Itoa(n)
			res := exchange(t, addrs[surface], "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": " + id, "Authorization: Bearer " + p.tokens["reader"]}, "")
			return res.status, len(up.take(id))
		}
		good := p.policy.Current()
		ring, err := p.keys.Arrange("", nil)
		require.NoError(t, err)
		other, err := models.NewKeyring(models.Key{ID: "other", Secret: bytes.Repeat([]byte("o"), 32)})
		require.NoError(t, err)
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		for _, fault := range []struct {
			name   string
			make   func(t *testing.T)
			repair func()
		}{
			{"the database gone", func(*testing.T) { p.facts.hold(func(context.Context) error { return errDown }) }, p.facts.free},
			{"the database slow", func(*testing.T) {
				p.facts.hold(func(ctx context.Context) error { return wait(ctx, time.Second) })
			}, p.facts.free},
			{"the database stalled", func(*testing.T) {
				p.facts.hold(func(context.Context) error { <-release; return errDown })
			}, p.facts.free},
			{"the code panics", func(*testing.T) { p.facts.hold(func(context.Context) error { panic("a defect") }) }, p.facts.free},
			{"the token's key unknown", func(*testing.T) { p.keys.Replace(other) }, func() { p.keys.Replace(ring) }},
			{"the policy says nothing", func(t *testing.T) {
				p.policy.Swap(policyWith(t, "package patrol.authz\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"x\", \"message\": \"x\"}]} if input.now == 0\n"))
			}, func() { p.policy.Swap(good) }},
			{"the policy is malformed", func(t *testing.T) {
				p.policy.Swap(policyWith(t, "package patrol.authz\n\ndecision := {\"allow\": true, \"reasons\": \"none\"} if input.now > 0\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"x\", \"message\": \"x\"}]} if input.now == 0\n"))
			}, func() { p.policy.Swap(good) }},
			{"the policy takes too long", func(t *testing.T) {
				p.policy.Swap(policyWith(t, "package patrol.authz\n\ndecision := {\"allow\": count([1 | some a in numbers.range(1, input.now); a < 0]) == 0, \"reasons\": []} if input.now > 0\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"x\", \"message\": \"x\"}]} if input.now == 0\n"))
			}, func() { p.policy.Swap(good) }},
		} {
			t.Run(fault.name, func(t *testing.T) {
				fault.make(t)
				for surface := range maps.Keys(addrs) {
					status, arrived := ask(t, surface)
					assert.Equal(t, noDecision(surface), status, surface)
					assert.Zero(t, arrived, surface)
				}
				fault.repair()
			})
		}
		for surface, addr := range addrs {
			t.Run("the queue full/"+surface, func(t *testing.T) {
				p.facts.hold(func(ctx context.Context) error { return wait(ctx, time.Second) })
				defer p.facts.free()
				var wg sync.WaitGroup
				for range 64 {
					wg.Go(func() {
						res := exchange(t, addr, "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": full", "Authorization: Bearer " + p.tokens["reader"]}, "")
						assert.Equal(t, noDecision(surface), res.status)
					})
				}
				wg.Wait()
				assert.Empty(t, up.take("full"))
			})
		}
	})
}

// The examples as they stand let nothing pass either when nobody is there to ask.
func TestNothingPassesWithoutPatrol(t *testing.T) {
	up := newUpstream(t)
	nobody := "127.0.0.1:" + freePort(t)
	for surface, open := range map[string]func(*testing.T) string{
		onEnvoyGRPC: func(t *testing.T) string { return startEnvoy(t, "envoy.yaml", "10000", nobody, up.addr) },
		onEnvoyHTTP: func(t *testing.T) string { return startEnvoy(t, "envoy-http.yaml", "10001", nobody, up.addr) },
		onNginx:     func(t *testing.T) string { return startNginx(t, nobody, up.addr) },
		onCaddy:     func(t *testing.T) string { return startCaddy(t, nobody, up.addr) },
		onHAProxy:   func(t *testing.T) string { return startHAProxy(t, nobody, up.addr) },
	} {
		t.Run(surface, func(t *testing.T) {
			res := exchange(t, open(t), "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": nobody"}, "")
			assert.GreaterOrEqual(t, res.status, 500)
			assert.Empty(t, up.take("nobody"))
		})
	}
}

// noDecision is the answer to a client while nothing can be decided. Envoy takes a
// 5xx over HTTP for a reason to let the request pass.
func noDecision(surface string) int {
	if surface == onEnvoyHTTP {
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable
}

// wait waits for d or the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// policyWith loads the default policy with another module for decisions.
func policyWith(t *testing.T, module string) *engine.Snapshot {
	t.Helper()
	source, err := bundles.Open(context.Background(), "")
	require.NoError(t, err)
	files := maps.Clone(source.Files)
	files["authz/authz.rego"] = []byte(module)
	source.Files = files
	snapshot, err := engine.Load(context.Background(), source)
	require.NoError(t, err)
	return snapshot
}
