package store

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// change notes that a fact changes in this transaction.
func (t *tx) change(kind ChangeKind, key, key2 string) {
	t.changes = append(t.changes, changeRow{Kind: kind, Key: key, Key2: key2, At: t.now})
}

// FeedEnd returns the position after all changes that can be seen.
func (s *Store) FeedEnd(ctx context.Context) (models.FeedPosition, error) {
	page, err := s.changes(ctx, "feed_end", models.FeedPosition{}, 0)
	return page.Next, err
}

// Changes returns the changes after the position, in the order of their numbers. A change that
// becomes visible later than one with a higher number is not missed, and no
// transaction that goes on keeps others' changes back.
//
// The page is not complete if there are more than limit; if changes after the position were pruned; if the
// database does not have the change that was the last one, as after a failover to a
// server that lagged behind or the restore of a backup; or if it is another database,
// or the same one on another server. Then the reader must drop everything that it
// holds and go on from [Store.FeedEnd], which it must have read before it reads
// anything anew.
func (s *Store) Changes(ctx context.Context, after models.FeedPosition, limit int) (models.FeedPage, error) {
	return s.changes(ctx, "changes", after, max(limit, 1))
}

func (s *Store) changes(ctx context.Context, op string, after models.FeedPosition, limit int) (page models.FeedPage, err error) {
	read, pool := s.sqliteChanges, s.reader
	if s.database.driver == postgresDriver {
		read, pool = s.postgresChanges, s.feed
	}
	err = s.run(ctx, op, pool, func(db *gorm.DB) (err error) {
		page, err = read(db, after, limit)
		return err
	})
	return page, err
}

// feedRow is a row of either query: a change, if there is one, beside what the feed
// as a whole looks like.
type feedRow struct {
	PrunedThrough int64
	PrunedWithin  bool   // what was pruned may not have been seen
	Present       bool   // the last change that the reader knows is there
	LastSeq       int64  // 0: none
	LastNonce     string // of it
	Snapshot      string
	Server        string
	World         string
	Standby       bool

	Seq     int64 // 0: no change
	Kind    ChangeKind
	Key     string
	Key2    string `gorm:"column:key2"`
	At      *time.Time
	Nonce   string
	Awaited bool
}

func (r feedRow) change() Change {
	return Change{Seq: r.Seq, Kind: r.Kind, Key: r.Key, Key2: r.Key2, At: r.At.UTC()}
}

// complete reports whether the feed goes on from the position.
func (r feedRow) complete(after models.FeedPosition) bool {
	switch {
	case after.World != "" && after.World != r.World, r.PrunedWithin:
		return false
	case after.Nonce != "":
		return r.Present
	}
	// There was no change yet, or none any more.
	return r.PrunedThrough <= after.Seq && max(r.LastSeq, r.PrunedThrough) >= after.Seq
}

const feedColumns = `COALESCE(c.seq, 0) AS seq, COALESCE(c.kind, '') AS kind, COALESCE(c.key, '') AS key, COALESCE(c.key2, '') AS key2, c.at,
	COALESCE(l.seq, 0) AS last_seq`

// On SQLite writers are alone, so that numbers become visible in their order.
func (s *Store) sqliteChanges(db *gorm.DB, after models.FeedPosition, limit int) (page models.FeedPage, err error) {
	// One statement, so that pruning cannot come between.
	const query = `SELECT f.pruned_through, EXISTS (SELECT 1 FROM changes WHERE seq = ? AND nonce = ?) AS present,
			` + feedColumns + `, COALESCE(l.nonce, '') AS last_nonce, COALESCE(c.nonce, '') AS nonce, COALESCE(c.awaited, 0) AS awaited
		FROM change_feed f
		LEFT JOIN (SELECT seq, nonce FROM changes ORDER BY seq DESC LIMIT 1) l ON 1 = 1
		LEFT JOIN (SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?) c ON 1 = 1
		ORDER BY c.seq`
	var rows []feedRow
	if err := db.Raw(query, after.Seq, after.Nonce, after.Seq, oneMore(limit)).Find(&rows).Error; err != nil {
		return page, err
	}
	return newPage(rows, after, limit)
}

// oneMore is the number of rows that shows whether there are more than limit.
func oneMore(limit int) int {
	if limit == 0 {
		return 0
	}
	return limit + 1
}

func newPage(rows []feedRow, after models.FeedPosition, limit int) (page models.FeedPage, err error) {
	if len(rows) == 0 {
		return page, errNoFeed
	}
	first := rows[0]
	page.Next = models.FeedPosition{
		Seq: max(first.LastSeq, first.PrunedThrough), Nonce: first.LastNonce, Seen: first.Snapshot, World: first.World,
	}
	page.Complete = first.complete(after) && len(rows) <= max(limit, 1)
	if !page.Complete {
		return page, nil
	}
	for _, r := range rows {
		if r.Seq != 0 {
			page.Changes = append(page.Changes, r.change())
			page.Awaited = page.Awaited || r.Awaited
		}
	}
	return page, nil
}

// postgresWorld names the database that a position is of. The server's start tells
// servers apart, also one that was restored to what it was; the rest tells of a
// database or a table that was made anew meanwhile.
const (
	postgresServer = `CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) AS text)`
	postgresWorld  = postgresServer + ` || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
		|| '/' || CAST(CAST('changes' AS regclass) AS oid) || '/' || pg_relation_filenode('changes')`
)

// On PostgreSQL transactions become visible in any order. A snapshot says which of
// them were over: what a reader has not seen is of one that the snapshot of its last
// read has as under way, or that began after it. How long one is under way, and in
// which database, makes no difference to others' changes.
//
// A row whose transaction is later than every one of this server came with a restored
// dump. It is no news.
func (s *Store) postgresChanges(db *gorm.DB, after models.FeedPosition, limit int) (page models.FeedPage, err error) {
	const query = `WITH seen AS (SELECT CAST(? AS pg_snapshot) AS was, pg_current_snapshot() AS now)
		SELECT f.pruned_through, f.pruned_xid >= pg_snapshot_xmin(seen.was) AND f.pruned_xid < pg_snapshot_xmax(seen.now) AS pruned_within,
			EXISTS (SELECT 1 FROM changes WHERE seq = ? AND CAST(nonce AS text) = ?) AS present,
			CAST(seen.now AS text) AS snapshot, ` + postgresServer + ` AS server, ` + postgresWorld + ` AS world, pg_is_in_recovery() AS standby,
			` + feedColumns + `, COALESCE(CAST(l.nonce AS text), '') AS last_nonce, COALESCE(CAST(c.nonce AS text), '') AS nonce, COALESCE(c.awaited, FALSE) AS awaited
		FROM seen CROSS JOIN change_feed f
		LEFT JOIN (SELECT seq, nonce FROM changes ORDER BY seq DESC LIMIT 1) l ON TRUE
		LEFT JOIN LATERAL (
			SELECT * FROM changes WHERE (xid >= pg_snapshot_xmax(seen.was) OR xid = ANY (ARRAY(SELECT pg_snapshot_xip(seen.was))))
				AND xid < pg_snapshot_xmax(seen.now)
			ORDER BY xid, seq LIMIT ?
		) c ON TRUE
		ORDER BY c.seq`
	was := after.Seen
	if was == "" {
		was = "1:1:" // before the first transaction
	}
	var rows []feedRow
	if err := db.Raw(query, was, after.Seq, after.Nonce, oneMore(limit)).Find(&rows).Error; err != nil {
		return page, err
	}
	if len(rows) > 0 {
		s.servers.met(rows[0].Server)
		if rows[0].Standby {
			return page, errStandby
		}
	}
	return newPage(rows, after, limit)
}

var (
	errNoFeed  = models.NewError(models.CodeInternal, "the change feed has lost its row; restore the database")
	errStandby = models.NewError(models.CodeUnavailable, "the database server is a standby, which lags behind: connect to the primary")
)

// DataVersion returns a number that is another one after every commit to an
// SQLite database by whatever process, at the price of reading a few bytes of
// shared memory. It is not ok on PostgreSQL: ask for [Store.Changes] there.
func (s *Store) DataVersion(ctx context.Context) (version int64, ok bool, err error) {
	if s.version == nil {
		return 0, false, nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	s.files.look()
	if err = s.files.readable(); err == nil {
		version, err = s.version.read(ctx)
		err = failure(ctx, "data_version", err)
	}
	s.observe("data_version", begin, err)
	return version, err == nil, err
}

// pruneBatch is the number of changes that one transaction deletes: on SQLite writers wait for
// it.
const pruneBatch = 5000

// PruneChanges deletes the changes that are older than that. Readers that lag
// behind learn of it; see [Store.Changes]. The last change stays: by it readers know
// that the feed is the one that they read.
func (s *Store) PruneChanges(ctx context.Context, olderThan time.Duration) error {
	prune := (*tx).pruneSQLite
	if s.database.driver == postgresDriver {
		prune = (*tx).prunePostgres
	}
	cutoff := s.now().Add(-olderThan)
	for {
		var deleted int64
		err := s.write(ctx, "prune_changes", models.Actor{}, func(t *tx) (err error) {
			deleted, err = prune(t, cutoff)
			return err
		})
		if err != nil || deleted == 0 {
			return err
		}
	}
}

func (t *tx) pruneSQLite(cutoff time.Time) (deleted int64, err error) {
	// All before the first change that is young enough: of clocks that differ,
	// the slow one must not take young changes along.
	const through = `SELECT min(COALESCE((SELECT MIN(seq) FROM changes WHERE at >= ?), (SELECT MAX(seq) FROM changes), 0),
			COALESCE((SELECT MAX(seq) FROM changes), 0), COALESCE((SELECT MIN(seq) FROM changes), 0) + ?) - 1`
	var last int64
	if err := t.db.Raw(through, cutoff, pruneBatch).Find(&last).Error; err != nil {
		return 0, err
	}
	gone := t.db.Exec("DELETE FROM changes WHERE seq <= ?", last)
	if gone.Error != nil || gone.RowsAffected == 0 {
		return 0, gone.Error
	}
	return gone.RowsAffected, t.db.Exec("UPDATE change_feed SET pruned_through = ? WHERE pruned_through < ?", last, last).Error
}

// prunePostgres deletes what transactions wrote that were over before all that are
// under way began, and before the first change that is young enough was written.
// What a restored dump brought is of transactions that this server never had: it goes
// by its age alone, and a mark that is ahead of this server counts for nothing.
func (t *tx) prunePostgres(cutoff time.Time) (deleted int64, err error) {
	const prune = `WITH horizon AS (
			SELECT pg_snapshot_xmin(pg_current_snapshot()) AS under_way, pg_snapshot_xmax(pg_current_snapshot()) AS ahead,
				(SELECT MAX(seq) FROM changes) AS last, (SELECT xid FROM changes WHERE at >= ? ORDER BY xid LIMIT 1) AS young
		), gone AS (
			DELETE FROM changes WHERE seq IN (
				SELECT seq FROM changes, horizon
				WHERE seq <> last AND at < ? AND (xid < under_way AND (young IS NULL OR xid < young) OR xid >= ahead)
				ORDER BY xid, seq LIMIT ?)
			RETURNING seq, xid
		), newest AS (
			SELECT xid FROM gone, horizon WHERE xid < ahead ORDER BY xid DESC LIMIT 1
		)
		UPDATE change_feed SET pruned_through = GREATEST(pruned_through, (SELECT MAX(seq) FROM gone)),
			pruned_xid = CASE
				WHEN pruned_xid >= (SELECT ahead FROM horizon) OR pruned_xid < (SELECT xid FROM newest)
				THEN COALESCE((SELECT xid FROM newest), '0')
				ELSE pruned_xid END
		WHERE EXISTS (SELECT 1 FROM gone)
		RETURNING (SELECT COUNT(*) FROM gone)`
	if err := t.db.Exec("SELECT "+takeFeedLock+" FROM change_feed", int64(lockFeed)).Error; err != nil {
		return 0, err
	}
	err = t.db.Raw(prune, cutoff, cutoff, pruneBatch).Find(&deleted).Error
	return deleted, err
}

// takeFeedLock takes the lock under which writers take turns, if they do.
const takeFeedLock = "CASE WHEN locked THEN CAST(pg_advisory_xact_lock(?) AS text) END"

// FinishFeed ends the lock that writers share for the sake of servers of before
// schema version 9, and reports whether there was one. None of those may run any
// more.
func (s *Store) FinishFeed(ctx context.Context) (finished bool, err error) {
	if s.database.driver == sqliteDriver {
		return false, nil
	}
	err = s.run(ctx, "finish_feed", s.writer, func(db *gorm.DB) error {
		result := db.Exec("UPDATE change_feed SET locked = FALSE WHERE locked")
		finished = result.RowsAffected > 0
		return result.Error
	})
	return finished, err
}

// FeedLocked reports whether writers still take turns; see [Store.FinishFeed].
func (s *Store) FeedLocked(ctx context.Context) (locked bool, err error) {
	if s.database.driver == sqliteDriver {
		return false, nil
	}
	err = s.read(ctx, "feed_locked", func(db *gorm.DB) error {
		return db.Raw("SELECT locked FROM change_feed").Find(&locked).Error
	})
	return locked, err
}

// repeat returns n times what stands for one row.
func repeat(row string, n int) string { return strings.TrimSuffix(strings.Repeat(row+", ", n), ", ") }
