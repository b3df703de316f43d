package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/gateway"
)

// deliveries counts the requests that arrived, by the id in their header.
type deliveries struct {
	mu    sync.Mutex
	times map[string]int
}

func (d *deliveries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = map[string]int{}
	}
	d.times[r.Header.Get("X-Delivery")]++
	w.WriteHeader(http.StatusOK)
}

// TestNoPostIsLostOrDoubled has an upstream close idle connections within
// milliseconds, while posts come at all moments.
func TestNoPostIsLostOrDoubled(t *testing.T) {
	for name, kind := range map[string]struct {
		keep time.Duration
		need *models.BodyNeed
		key  bool // the client says that the request may be sent again
	}{
		"bodies that are kept":     {3 * time.Millisecond, needs(models.BodyJSON).need, false},
		"bodies that are streamed": {3 * time.Millisecond, nil, false},
		"an idempotency key":       {2 * time.Millisecond, needs(models.BodyJSON).need, true},
	} {
		t.Run(name, func(t *testing.T) {
			var arrived deliveries
			w := newWorld(t, setup{
				judge: &judge{need: kind.need}, upstream: arrived.ServeHTTP,
				backend: func(s *http.Server) { s.IdleTimeout = kind.keep },
			})
			const clients, each = 4, 250
			var failed atomic.Int32
			var group sync.WaitGroup
			for c := range clients {
				group.Go(func() {
					tick := time.NewTicker(time.Duration(c+1) * time.Millisecond)
					defer tick.Stop()
					for i := range each {
						r := w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", strings.NewReader(`{"model":"a"}`))
						r.Header.Set("X-Delivery", fmt.Sprint(c, "-", i))
						if kind.key {
							r.Header.Set("Idempotency-Key", fmt.Sprint(c, "-", i))
						}
						res, err := w.client.Do(r)
						if err != nil {
							failed.Add(1)
							continue
						}
						if res.StatusCode != http.StatusOK {
							failed.Add(1)
						}
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
						<-tick.C
					}
				})
			}
			group.Wait()
			require.Zero(t, failed.Load(), "%s", w.log)
			arrived.mu.Lock()
			defer arrived.mu.Unlock()
			require.Equal(t, clients*each, len(arrived.times), "requests that arrived") //nolint:testifylint // Len would print a thousand of them
			for id, n := range arrived.times {
				assert.Equal(t, 1, n, id)
			}
		})
	}
}

// TestConnectionsAreTrustedOnceKnown: once an upstream is known to keep them.
func TestConnectionsAreTrustedOnceKnown(t *testing.T) {
	var opened atomic.Int32
	w := newWorld(t, setup{
		upstream: func(http.ResponseWriter, *http.Request) {},
		config:   func(c *gateway.Config) { c.IdleTimeout = 700 * time.Millisecond },
		backend: func(s *http.Server) {
			s.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
		},
	})
	post := func() int32 {
		before := opened.Load()
		require.Equal(t, http.StatusOK, w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", nil)).StatusCode)
		return opened.Load() - before
	}
	assert.Equal(t, int32(1), post())
	assert.Equal(t, int32(1), post(), "nobody knows yet")
	require.Eventually(t, func() bool { return post() == 0 }, wait, 10*time.Millisecond)
	before := opened.Load()
	for range 20 {
		assert.Equal(t, http.StatusOK, w.get("/proxy/acme/v1/models").StatusCode)
	}
	assert.LessOrEqual(t, opened.Load()-before, int32(1), "what may be sent again needs no proof")
}

// TestOnlyGetAndHeadAreSentAgain has an upstream that takes a second request on a
// connection and closes instead of answering it.
func TestOnlyGetAndHeadAreSentAgain(t *testing.T) {
	for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodHead: http.StatusOK, http.MethodPut: http.StatusBadGateway, http.MethodDelete: http.StatusBadGateway, http.MethodPost: http.StatusBadGateway} {
		t.Run(method, func(t *testing.T) {
			var seen atomic.Int32
			w := newWorld(t, setup{
				upstream: func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("X-Break") == "" {
						return
					}
					if seen.Add(1) > 1 {
						return
					}
					conn, _, err := http.NewResponseController(rw).Hijack()
					if err == nil {
						_ = conn.Close()
					}
				},
			})
			w.get("/proxy/acme/v1/models")
			r := w.request(t.Context(), method, "/proxy/acme/v1/x", nil)
			r.Header.Set("X-Break", "1")
			r.Header.Set("Idempotency-Key", "k")
			assert.Equal(t, want, w.do(r).StatusCode)
			if want == http.StatusOK {
				assert.Equal(t, int32(2), seen.Load())
			} else {
				assert.Equal(t, int32(1), seen.Load())
			}
		})
	}
}

// TestLargeBodiesOverNewConnections: a body that is not kept goes over a
// connection that nobody else had.
func TestLargeBodiesOverNewConnections(t *testing.T) {
	w := newWorld(t, setup{upstream: digest})
	body := bytes.Repeat([]byte("x"), 3<<20)
	for range 3 {
		assert.Equal(t, http.StatusOK, w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/api/blobs/x", bytes.NewReader(body))).StatusCode)
	}
}
