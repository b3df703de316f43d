package store

import (
	"database/sql"
	"strconv"

	"patrol/models"
)

// The scopes of the token p as a JSON array of arrays, so that tokens come whole
// in one round trip.
const (
	sqliteScopes = `(SELECT json_group_array(json_array(s.id, s.domain, s.entity_type, s.entity, s.operation) ORDER BY s.position)
		FROM scopes s WHERE s.pat_id = p.id) AS scopes`
	postgresScopes = `(SELECT json_agg(json_build_array(s.id, s.domain, s.entity_type, s.entity, s.operation) ORDER BY s.position)
		FROM scopes s WHERE s.pat_id = p.id) AS scopes`
	// What who gave an approval may do now.
	approver = `'Platform', (SELECT COUNT(*) FROM users y WHERE y.id = a.approved_by AND y.admin AND NOT y.disabled),
		'Role', COALESCE((SELECT m.role FROM memberships m WHERE m.user_id = a.approved_by AND m.domain = a.domain), '')`
	// Its approvals, the same way.
	sqliteApprovals = `(SELECT json_group_array(json_object('Domain', a.domain, 'By', a.approved_by, 'Micros', a.at, ` + approver + `) ORDER BY a.domain)
		FROM approvals a WHERE a.pat_id = p.id) AS approvals`
	postgresApprovals = `(SELECT json_agg(json_build_object('Domain', a.domain, 'By', a.approved_by,
		'Micros', CAST(EXTRACT(EPOCH FROM a.at) * 1000000 AS bigint), ` + approver + `) ORDER BY a.domain)
		FROM approvals a WHERE a.pat_id = p.id) AS approvals`
	// The domains that have withdrawn it, the same way.
	sqliteWithdrawals = `(SELECT json_group_array(json_object('Domain', w.domain, 'By', w.withdrawn_by, 'Reason', w.reason, 'Micros', w.at) ORDER BY w.domain)
		FROM withdrawals w WHERE w.pat_id = p.id) AS withdrawals`
	postgresWithdrawals = `(SELECT json_agg(json_build_object('Domain', w.domain, 'By', w.withdrawn_by, 'Reason', w.reason,
		'Micros', CAST(EXTRACT(EPOCH FROM w.at) * 1000000 AS bigint)) ORDER BY w.domain)
		FROM withdrawals w WHERE w.pat_id = p.id) AS withdrawals`
	fromPATByID = " FROM pats p WHERE p.id = ?"
)

// dialect holds the differences between the databases.
type dialect struct {
	// txOptions are those of writing transactions.
	txOptions *sql.TxOptions
	// patSelect selects a [patRow] of the table pats as p.
	patSelect string
	// patByID is the statement that reads one token.
	patByID string
	// useRow is the placeholders for one row of [Store.RecordUses].
	useRow string
	// tableCount counts the tables of a name.
	tableCount string
	// now is the time by the clock of the database, and ago that many microseconds
	// before it.
	now, ago string
	// acknowledged is what a server acknowledges by, and reached whether that of the
	// server v includes a change, which is named by its transaction or number.
	acknowledged func(models.FeedPosition) string
	reached      string
	nonce        string // of a change, as a text
}

var dialects = map[driver]dialect{
	sqliteDriver: {
		patSelect:  patColumns + ", " + sqliteScopes + ", " + sqliteApprovals + ", " + sqliteWithdrawals,
		patByID:    "SELECT " + patColumns + ", " + sqliteScopes + ", " + sqliteApprovals + ", " + sqliteWithdrawals + fromPATByID,
		useRow:     "(?, ?, ?, ?)",
		tableCount: "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?",
		now:        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
		ago:        "CAST(unixepoch('subsec') * 1000000 AS INTEGER) - ?",
		acknowledged: func(p models.FeedPosition) string {
			return strconv.FormatInt(p.Seq, 10)
		},
		reached: "COALESCE(CAST(v.acknowledged AS INTEGER) >= ?, 0)",
		nonce:   "nonce",
	},
	postgresDriver: {
		// The locks of this package need each statement to see what was
		// committed before it, whatever the database's default is.
		txOptions:  &sql.TxOptions{Isolation: sql.LevelReadCommitted},
		patSelect:  patColumns + ", " + postgresScopes + ", " + postgresApprovals + ", " + postgresWithdrawals,
		patByID:    "SELECT " + patColumns + ", " + postgresScopes + ", " + postgresApprovals + ", " + postgresWithdrawals + fromPATByID,
		useRow:     "(CAST(? AS text), CAST(? AS timestamptz), CAST(? AS text), CAST(? AS text))",
		tableCount: "SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?",
		now:        "clock_timestamp()",
		ago:        "clock_timestamp() - CAST(? AS bigint) * INTERVAL '1 microsecond'",
		acknowledged: func(p models.FeedPosition) string {
			return p.Seen
		},
		reached: "COALESCE(pg_visible_in_snapshot(CAST(? AS xid8), CAST(NULLIF(v.acknowledged, '') AS pg_snapshot)), FALSE)",
		nonce:   "CAST(nonce AS text)",
	},
}
