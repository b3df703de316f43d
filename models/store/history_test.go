package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// A reader that knows the last change of one history of a database drops everything
// when it meets another one, even if that has a change with the same number and, by
// chance or because it was restored, the same nonce.
func TestFeedOfAnotherHistory(t *testing.T) {
	t.Parallel()
	const makeAlike = "UPDATE changes SET nonce = CAST('%s' AS uuid) WHERE seq = %d"
	// fill has the feed reach a number, of other changes.
	fill := func(t *testing.T, s *store.Store, seq int64) {
		t.Helper()
		for n := 0; ; n++ {
			at, err := s.FeedEnd(t.Context())
			require.NoError(t, err)
			if at.Seq >= seq {
				return
			}
			_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: fmt.Sprint("again-", n)})
			require.NoError(t, err)
		}
	}
	alike := func(t *testing.T, c *testenv.Cluster, at models.FeedPosition) {
		t.Helper()
		c.Query(fmt.Sprintf(makeAlike, at.Nonce, at.Seq))
		require.Equal(t, []string{"1"}, c.Query(fmt.Sprintf("SELECT CAST(count(*) AS text) FROM changes WHERE seq = %d AND nonce = '%s'", at.Seq, at.Nonce)))
	}
	for name, turn := range map[string]func(t *testing.T, c *testenv.Cluster, proxy *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster){
		// The new timeline counts on from where the standby was.
		"failover": func(_ *testing.T, c *testenv.Cluster, proxy *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster) {
			standby := c.Standby()
			c.AwaitStandby(standby)
			standby.Unfollow()
			at := read()
			standby.Promote()
			proxy.Lead(standby.Addr())
			c.Kill()
			return at, standby
		},
		// The whole server is taken back, with what the reader has read last or without.
		"a server taken back before": func(_ *testing.T, c *testenv.Cluster, _ *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster) {
			restore := c.Save()
			at := read()
			restore()
			return at, c
		},
		"a server taken back to the same": func(_ *testing.T, c *testenv.Cluster, _ *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster) {
			at := read()
			c.Save()()
			return at, c
		},
		// pg_restore --clean under a running server: the same rows in a table made anew.
		"a table restored": func(_ *testing.T, c *testenv.Cluster, _ *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster) {
			at := read()
			c.Query("CREATE TABLE restored (LIKE changes INCLUDING ALL); INSERT INTO restored OVERRIDING SYSTEM VALUE SELECT * FROM changes;" +
				"DROP TABLE changes; ALTER TABLE restored RENAME TO changes;" +
				"SELECT CAST(setval(pg_get_serial_sequence('changes', 'seq'), (SELECT MAX(seq) FROM changes)) AS text)")
			return at, c
		},
		"rows restored": func(_ *testing.T, c *testenv.Cluster, _ *testenv.Proxy, read func() models.FeedPosition) (models.FeedPosition, *testenv.Cluster) {
			at := read()
			c.Query("CREATE TABLE kept AS SELECT * FROM changes; TRUNCATE changes; INSERT INTO changes OVERRIDING SYSTEM VALUE SELECT * FROM kept")
			return at, c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testenv.NewCluster(t)
			proxy := testenv.NewProxy(t, cluster.Addr())
			s := storetest.New(t, cluster.URLAt(proxy.Addr()))
			ctx := context.Background()
			_, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "before"})
			require.NoError(t, err)
			at, now := turn(t, cluster, proxy, func() models.FeedPosition {
				for n := range 3 {
					_, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: fmt.Sprint("lost-", n)})
					require.NoError(t, err)
				}
				at, err := s.FeedEnd(ctx)
				require.NoError(t, err)
				return at
			})
			require.Eventually(t, func() bool { _, err := s.FeedEnd(ctx); return err == nil }, time.Minute, 10*time.Millisecond)
			fill(t, s, at.Seq)
			alike(t, now, at)
			page, err := s.Changes(ctx, at, 100)
			require.NoError(t, err)
			assert.False(t, page.Complete, "it read on in another history")
			assert.Empty(t, page.Changes)
			// It goes on in the new one.
			end, err := s.FeedEnd(ctx)
			require.NoError(t, err)
			_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "after"})
			require.NoError(t, err)
			page, err = s.Changes(ctx, end, 100)
			require.NoError(t, err)
			require.True(t, page.Complete)
			require.Len(t, page.Changes, 1)
			assert.Equal(t, "after", page.Changes[0].Key)
		})
	}
}
