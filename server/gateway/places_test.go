package gateway_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/server/gateway"
)

// Requests under way are bounded: one token cannot have all places, and neither can
// those whose token has not verified.
func TestRequestsUnderWayAreBounded(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 10)
	w := newWorld(t, setup{
		config: func(c *gateway.Config) { c.MaxInFlight = 4 },
		upstream: func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-release
		},
	})
	var under sync.WaitGroup
	for range 3 {
		under.Go(func() { assert.Equal(t, http.StatusOK, w.get("/proxy/acme/v1/x").StatusCode) })
	}
	for range 3 {
		receive(t, arrived, "a request at the upstream")
	}
	res := w.get("/proxy/acme/v1/x")
	assert.Equal(t, http.StatusTooManyRequests, res.StatusCode, "it has its share")
	assert.Equal(t, "rate_limited", res.code())
	assert.Equal(t, "1", res.Header.Get("Retry-After"))
	r := w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil)
	r.Header.Set("Authorization", "Bearer patrol_x")
	assert.Equal(t, http.StatusUnauthorized, w.do(r).StatusCode, "there is a place for others")
	close(release)
	under.Wait()
	assert.Equal(t, http.StatusOK, w.get("/proxy/acme/v1/x").StatusCode)
}

func TestMoreThanThereArePlacesForAtTheGateway(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	w := newWorld(t, setup{
		config:   func(c *gateway.Config) { c.MaxInFlight = 1 },
		upstream: func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release },
	})
	var under sync.WaitGroup
	under.Go(func() { assert.Equal(t, http.StatusOK, w.get("/proxy/acme/v1/x").StatusCode) })
	receive(t, arrived, "a request at the upstream")
	res := w.get("/proxy/acme/v1/x")
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.Equal(t, "unavailable", res.code())
	assert.Equal(t, "1", res.Header.Get("Retry-After"))
	close(release)
	under.Wait()
}
