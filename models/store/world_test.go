package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// Whatever the order in which transactions begin, write, and end, and however long
// others are open, each reader sees each change once, and at once when it is
// committed.
func TestFeedMissesNothing(t *testing.T) {
	u := testenv.Postgres(t)
	s := storetest.New(t, u)
	ctx := context.Background()
	const writers = 5
	conns := make([]*pgx.Conn, writers)
	for i := range conns {
		var err error
		conns[i], err = pgx.Connect(ctx, u)
		require.NoError(t, err)
		defer func() { assert.NoError(t, conns[i].Close(ctx)) }()
	}
	names := 0
	rapid.Check(t, func(t *rapid.T) {
		open, written := map[int]pgx.Tx{}, map[int][]string{}
		defer func() {
			for _, tx := range open {
				_ = tx.Rollback(ctx)
			}
		}()
		type reader struct {
			at   models.FeedPosition
			seen map[string]int
		}
		committed := map[string]bool{}
		begin, err := s.FeedEnd(ctx)
		require.NoError(t, err)
		readers := []*reader{{begin, map[string]int{}}, {begin, map[string]int{}}, {begin, map[string]int{}}}
		read := func(r *reader) {
			page, err := s.Changes(ctx, r.at, 10_000)
			require.NoError(t, err)
			require.True(t, page.Complete)
			for _, c := range page.Changes {
				r.seen[c.Key]++
			}
			r.at = page.Next
			for key := range committed {
				require.Equal(t, 1, r.seen[key], "%s was committed", key)
			}
			require.Len(t, r.seen, len(committed), "nothing else is seen")
		}
		writer := rapid.IntRange(0, writers-1)
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				i := writer.Draw(t, "writer")
				if open[i] == nil {
					tx, err := conns[i].Begin(ctx)
					require.NoError(t, err)
					if rapid.Bool().Draw(t, "early") { // it has its id before it writes a change
						_, err = tx.Exec(ctx, "SELECT pg_current_xact_id()")
						require.NoError(t, err)
					}
					open[i] = tx
				}
			},
			"write": func(t *rapid.T) {
				i := writer.Draw(t, "writer")
				if open[i] == nil {
					return
				}
				names++
				name, savepoint := fmt.Sprint("d", names), rapid.Bool().Draw(t, "savepoint")
				tx := open[i]
				if savepoint {
					var err error
					tx, err = tx.Begin(ctx)
					require.NoError(t, err)
				}
				_, err := tx.Exec(ctx, "INSERT INTO changes (kind, key, at) VALUES ('domain', $1, now())", name)
				require.NoError(t, err)
				if savepoint {
					require.NoError(t, tx.Commit(ctx))
				}
				written[i] = append(written[i], name)
			},
			"commit": func(t *rapid.T) {
				i := writer.Draw(t, "writer")
				if open[i] == nil {
					return
				}
				require.NoError(t, open[i].Commit(ctx))
				for _, name := range written[i] {
					committed[name] = true
				}
				delete(open, i)
				delete(written, i)
				read(readers[0]) // which looks after each
			},
			"roll back": func(t *rapid.T) {
				i := writer.Draw(t, "writer")
				if open[i] != nil {
					require.NoError(t, open[i].Rollback(ctx))
					delete(open, i)
					delete(written, i)
				}
			},
			"read":  func(*rapid.T) { read(readers[1]) },
			"prune": func(t *rapid.T) { require.NoError(t, s.PruneChanges(ctx, time.Hour)) },
		})
		for _, r := range readers { // the last looks for the first time
			read(r)
		}
	})
}

// The same with writers that write for real and commit slowly, beside a transaction
// that never ends.
func TestFeedMissesNothingOfManyWriters(t *testing.T) {
	cluster := testenv.NewCluster(t)
	storetest.New(t, cluster.URL())
	proxy := testenv.NewProxy(t, cluster.Addr())
	writer := storetest.New(t, cluster.URLAt(proxy.Addr()))
	reader := storetest.New(t, cluster.URL())
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, cluster.URL())
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, "BEGIN; SELECT pg_current_xact_id()")
	require.NoError(t, err)

	at, err := reader.FeedEnd(ctx)
	require.NoError(t, err)
	proxy.Delay(2 * time.Millisecond)
	writers, each := 12, 15
	if testenv.Long() {
		each = 300
	}
	var committed sync.Map
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for i := range each {
				id := fmt.Sprintf("d-%d-%d", w, i)
				if _, err := writer.CreateDomain(ctx, models.Actor{}, models.Domain{ID: id}); assert.NoError(t, err) {
					committed.Store(id, true)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	seen := map[string]int{}
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		var before []string
		committed.Range(func(id, _ any) bool { before = append(before, id.(string)); return true })
		page, err := reader.Changes(ctx, at, 10_000)
		require.NoError(t, err)
		require.True(t, page.Complete)
		at = page.Next
		for _, c := range page.Changes {
			seen[c.Key]++
		}
		for _, id := range before {
			require.Equal(t, 1, seen[id], "%s was committed before it was looked for", id)
		}
	}
	assert.Len(t, seen, writers*each)
	assert.Equal(t, []int{1}, slices.Compact(slices.Sorted(maps.Values(seen))))
}

// A server that stands still in the middle of a write delays nobody else's but its
// own users', and these by less than a second.
func TestFrozenServerDelaysOthersALittle(t *testing.T) {
	for _, locked := range []bool{false, true} {
		t.Run(map[bool]string{false: "own lock", true: "beside servers of before"}[locked], func(t *testing.T) {
			u := testenv.NewCluster(t)
			proxy := testenv.NewProxy(t, u.Addr())
			healthy := storetest.New(t, u.URL())
			ctx := context.Background()
			ann, err := healthy.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
			require.NoError(t, err)
			bob, err := healthy.CreateUser(ctx, models.Actor{}, models.User{Email: "bob@example.org"})
			require.NoError(t, err)
			p, err := healthy.CreatePAT(ctx, models.Actor{}, benchPAT(ann.ID, "leaked"))
			require.NoError(t, err)
			q, err := healthy.CreatePAT(ctx, models.Actor{}, benchPAT(bob.ID, "leaked"))
			require.NoError(t, err)
			u.Query(fmt.Sprintf("UPDATE change_feed SET locked = %t", locked))
			// In one round trip, so that it stands still after the statement was carried out,
			// not after it was prepared.
			frozen := storetest.New(t, u.URLAt(proxy.Addr())+"&default_query_exec_mode=exec")

			still := proxy.FreezeAfter("INSERT INTO changes")
			wrote := make(chan error, 1)
			go func() {
				_, err := frozen.CreatePAT(ctx, models.Actor{}, benchPAT(ann.ID, "new"))
				wrote <- err
			}()
			<-still
			begin := time.Now()
			_, err = healthy.RevokePAT(ctx, models.Actor{}, bob.ID, q.ID)
			require.NoError(t, err)
			others := time.Since(begin)
			_, err = healthy.RevokePAT(ctx, models.Actor{}, ann.ID, p.ID)
			require.NoError(t, err)
			assert.Less(t, time.Since(begin), time.Second, "a token of the user that it was writing about")
			if locked {
				assert.Greater(t, others, 100*time.Millisecond, "it stood still with the lock that all share")
			} else {
				assert.Less(t, others, 700*time.Millisecond, "another user's token waits for nothing")
			}
			t.Logf("another user's token: %s, the same user's: %s", others, time.Since(begin))
			proxy.Thaw()
			require.NoError(t, <-wrote, "it begins again")
			made, err := healthy.CreatePAT(ctx, models.Actor{}, benchPAT(ann.ID, "new"))
			assert.Equal(t, models.CodeTaken, models.CodeOf(err), "%v: what it acknowledged is there, once: %v", err, made)
		})
	}
}

// To create a token takes few round trips, and creates do not wait for each other.
func TestCreatesScaleWithConnections(t *testing.T) {
	u := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, u.Addr())
	s := storetest.New(t, u.URLAt(proxy.Addr()))
	ctx := context.Background()
	const workers = 8
	users := make([]string, workers)
	for i := range users {
		user, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: fmt.Sprintf("u%d@example.org", i)})
		require.NoError(t, err)
		users[i] = user.ID
		_, err = s.CreatePAT(ctx, models.Actor{}, benchPAT(user.ID, "first"))
		require.NoError(t, err)
	}
	const creates = 10
	before := proxy.Trips()
	for i := range creates {
		_, err := s.CreatePAT(ctx, models.Actor{}, benchPAT(users[0], fmt.Sprint("counted ", i)))
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, proxy.Trips()-before, int64(6*creates))

	proxy.Delay(10 * time.Millisecond) // so that the wait counts, and the machine's load little
	rate := func(workers int) float64 {
		var n atomic.Int64
		begin := time.Now()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		var running sync.WaitGroup
		for w := range workers {
			running.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					p, err := s.CreatePAT(ctx, models.Actor{}, benchPAT(users[w], fmt.Sprint(workers, " ", i)))
					if err == nil {
						n.Add(1)
						_, err = s.RevokePAT(ctx, models.Actor{}, users[w], p.ID) // so that there is no limit
					}
					if ctx.Err() == nil && !assert.NoError(t, err) {
						return
					}
				}
			})
		}
		running.Wait()
		return float64(n.Load()) / time.Since(begin).Seconds()
	}
	one, many := rate(1), rate(workers)
	t.Logf("at 10 ms: %.0f creates and revocations a second on one connection, %.0f on %d", one, many, workers)
	assert.Greater(t, many, 3*one)
}

// What a dump brought is of transactions that the server never had, or will have: it
// neither comes again and again, nor does it keep readers from reading or pruning.
func TestFeedOfARestoredDump(t *testing.T) {
	u := testenv.Postgres(t)
	clock := storetest.NewClock()
	s := storetest.New(t, u, func(c *store.Config) { c.Clock = clock.Now })
	ctx := context.Background()
	for _, id := range []string{"a", "b", "c"} {
		_, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: id})
		require.NoError(t, err)
	}
	_, err := raw(t, u).ExecContext(ctx, "UPDATE changes SET xid = '900000000000'; UPDATE change_feed SET pruned_xid = '900000000000'")
	require.NoError(t, err)
	at, err := s.FeedEnd(ctx)
	require.NoError(t, err)
	for i := range 3 {
		page, err := s.Changes(ctx, at, 100)
		require.NoError(t, err)
		require.True(t, page.Complete)
		assert.Empty(t, page.Changes)
		_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: fmt.Sprint("new", i)})
		require.NoError(t, err)
		page, err = s.Changes(ctx, page.Next, 100)
		require.NoError(t, err)
		require.True(t, page.Complete)
		require.Len(t, page.Changes, 1)
		assert.Equal(t, fmt.Sprint("new", i), page.Changes[0].Key)
		at = page.Next
	}
	clock.Advance(time.Hour)
	_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "last"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		require.NoError(t, s.PruneChanges(ctx, time.Minute))
		var n int
		require.NoError(t, raw(t, u).QueryRowContext(ctx, "SELECT COUNT(*) FROM changes").Scan(&n))
		return n == 1
	}, time.Minute, 10*time.Millisecond)
	end, err := s.FeedEnd(ctx)
	require.NoError(t, err)
	page, err := s.Changes(ctx, end, 100)
	require.NoError(t, err)
	assert.True(t, page.Complete)
}

// A standby is not taken for the database: what it has is old, by nobody knows how
// much.
func TestStandbyIsRefused(t *testing.T) {
	primary := testenv.NewCluster(t)
	storetest.New(t, primary.URL())
	standby := primary.Standby()
	_, err := store.Open(t.Context(), store.Config{URL: standby.URL()})
	require.ErrorContains(t, err, "standby")
	assert.Equal(t, models.CodeUnavailable, models.CodeOf(err))
	s, err := store.Open(t.Context(), store.Config{URL: "postgres://patrol:patrol@" + standby.Addr() + "," + primary.Addr() + "/postgres?sslmode=disable"})
	require.NoError(t, err, "of several hosts the primary is found")
	defer func() { require.NoError(t, s.Close()) }()
	_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
}

// After the address moved to another server, connections to the one of before are
// given up even though it still answers.
func TestOldServerIsGivenUp(t *testing.T) {
	old := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, old.Addr())
	s := storetest.New(t, old.URLAt(proxy.Addr()))
	promoted := old.Standby()
	promoted.Promote()
	_, err := s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
	at, err := s.FeedEnd(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 100)
	var running sync.WaitGroup
	running.Go(func() { s.Listen(ctx, 20*time.Millisecond, func() { woken <- struct{}{} }) })
	defer running.Wait()
	defer cancel()
	<-woken // it listens
	proxy.Lead(promoted.Addr())
	require.Eventually(t, func() bool {
		d, err := s.Domain(t.Context(), "acme")
		return err == nil && d == nil // the promoted server never had it
	}, time.Minute, 5*time.Millisecond)
	for range 20 {
		d, err := s.Domain(t.Context(), "acme")
		require.NoError(t, err)
		require.Nil(t, d)
	}
	page, err := s.Changes(t.Context(), at, 100)
	require.NoError(t, err)
	assert.False(t, page.Complete)
}

// Others are told of a write after its commit.
func TestListenersAreTold(t *testing.T) {
	u := testenv.Postgres(t)
	a, b := storetest.New(t, u), storetest.New(t, u)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	told := make(chan struct{}, 100)
	listening := make(chan struct{}, 100)
	running.Go(func() { a.Listen(ctx, time.Minute, func() { listening <- struct{}{} }) })
	running.Go(func() { b.Listen(ctx, time.Minute, func() { told <- struct{}{} }) })
	<-listening
	<-told // it listens
	_, err := a.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody said so")
	}
	d, err := b.Domain(ctx, "acme")
	require.NoError(t, err)
	assert.NotNil(t, d)
}
