package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// With all hosts in the URL, the end of the primary under load costs no write that was
// acknowledged, and the server goes on with the one that is promoted; one that is cut off
// rather than ended does not hold up new connections.
func TestPrimaryEndsUnderLoad(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(map[bool]string{false: "killed", true: "frozen"}[frozen], func(t *testing.T) {
			primary := testenv.NewCluster(t)
			storetest.New(t, primary.URL())
			standby := primary.Standby()
			primary.Query("ALTER SYSTEM SET synchronous_standby_names = '*'") // no acknowledged write is lost
			primary.Query("SELECT CAST(pg_reload_conf() AS text)")
			before := testenv.NewProxy(t, primary.Addr())
			s, err := store.Open(t.Context(), store.Config{
				URL:     "postgres://patrol:patrol@" + before.Addr() + "," + standby.Addr() + "/postgres?sslmode=disable&target_session_attrs=read-write",
				Timeout: 3 * time.Second,
			})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			require.Eventually(t, func() bool {
				return primary.Query("SELECT CAST(count(*) AS text) FROM pg_stat_replication WHERE sync_state = 'sync'")[0] == "1"
			}, time.Minute, 10*time.Millisecond)
			var mu sync.Mutex
			acknowledged := map[string]bool{}
			ctx, end := context.WithCancel(t.Context())
			var writers sync.WaitGroup
			for w := range 8 {
				writers.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						id := fmt.Sprintf("d-%d-%d", w, n)
						if _, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: id}); err == nil {
							mu.Lock()
							acknowledged[id] = true
							mu.Unlock()
						}
					}
				})
			}
			count := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(acknowledged)
			}
			require.Eventually(t, func() bool { return count() > 50 }, time.Minute, time.Millisecond)
			if frozen {
				before.Freeze()
			} else {
				primary.Kill()
			}
			standby.Promote()
			ended, lost := time.Now(), count()
			require.Eventually(t, func() bool { return count() > lost+50 }, time.Minute, time.Millisecond)
			took := time.Since(ended)
			t.Logf("writes are acknowledged again %s after the promotion", took)
			assert.Less(t, took, 10*time.Second, "the limit of a statement, that of a connection, and slack")
			begin := time.Now()
			for range 20 { // also over new connections
				_, err := s.Facts().Domain(ctx, "d-0-0")
				require.NoError(t, err)
			}
			assert.Less(t, time.Since(begin), 2*time.Second)
			end()
			writers.Wait()
			before.Thaw()
			there := map[string]bool{}
			for _, id := range standby.Query("SELECT id FROM domains") {
				there[id] = true
			}
			for id := range acknowledged {
				assert.True(t, there[id], "%s was acknowledged", id)
			}
		})
	}
}
