package store

import "database/sql"

// The scopes of the token p as a JSON array of arrays, so that tokens come whole
// in one round trip.
const (
	sqliteScopes = `(SELECT json_group_array(json_array(s.id, s.domain, s.entity_type, s.entity, s.operation) ORDER BY s.position)
		FROM scopes s WHERE s.pat_id = p.id) AS scopes`
	postgresScopes = `(SELECT json_agg(json_build_array(s.id, s.domain, s.entity_type, s.entity, s.operation) ORDER BY s.position)
		FROM scopes s WHERE s.pat_id = p.id) AS scopes`
	// Its approvals, the same way.
	sqliteApprovals = `(SELECT json_group_array(json_object('Domain', a.domain, 'By', a.approved_by, 'Micros', a.at) ORDER BY a.domain)
		FROM approvals a WHERE a.pat_id = p.id) AS approvals`
	postgresApprovals = `(SELECT json_agg(json_build_object('Domain', a.domain, 'By', a.approved_by,
		'Micros', CAST(EXTRACT(EPOCH FROM a.at) * 1000000 AS bigint)) ORDER BY a.domain)
		FROM approvals a WHERE a.pat_id = p.id) AS approvals`
	fromPATByID = " FROM pats p WHERE p.id = ?"
)

// dialect is what the databases say differently.
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
}

var dialects = map[driver]dialect{
	sqliteDriver: {
		patSelect:  patColumns + ", " + sqliteScopes + ", " + sqliteApprovals,
		patByID:    "SELECT " + patColumns + ", " + sqliteScopes + ", " + sqliteApprovals + fromPATByID,
		useRow:     "(?, ?, ?, ?)",
		tableCount: "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?",
	},
	postgresDriver: {
		// The locks of this package need each statement to see what was
		// committed before it, whatever the database's default is.
		txOptions:  &sql.TxOptions{Isolation: sql.LevelReadCommitted},
		patSelect:  patColumns + ", " + postgresScopes + ", " + postgresApprovals,
		patByID:    "SELECT " + patColumns + ", " + postgresScopes + ", " + postgresApprovals + fromPATByID,
		useRow:     "(CAST(? AS text), CAST(? AS timestamptz), CAST(? AS text), CAST(? AS text))",
		tableCount: "SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?",
	},
}
