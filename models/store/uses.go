package store

import (
	"context"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
)

// useBatch is the number of uses that one statement writes: four parameters each, far from
// what either database takes.
const useBatch = 250

// RecordUses notes the latest use of tokens. Of several uses of a token, given
// together or over time, the latest stays, in whatever order they come; unknown
// tokens are passed over. It writes no change: no decision depends on it.
func (s *Store) RecordUses(ctx context.Context, uses []Use) error {
	latest := make(map[string]Use, len(uses))
	for _, u := range uses {
		if before, ok := latest[u.TokenID]; storable(u.TokenID) && (!ok || u.At.After(before.At)) {
			latest[u.TokenID] = u
		}
	}
	// In one order, so that processes that write at once do not wait for each
	// other in a circle; where they do all the same, the uses are lost.
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(latest)), useBatch) {
		rows, args := make([]string, len(ids)), make([]any, 0, 4*len(ids))
		for i, id := range ids {
			u := latest[id]
			rows[i] = s.dialect.useRow
			args = append(args, id, exact(u.At), note(u.IP), note(u.UserAgent))
		}
		query := "WITH used (id, at, ip, agent) AS (VALUES " + strings.Join(rows, ", ") + ") " +
			"UPDATE pats SET last_used_at = used.at, last_used_ip = used.ip, last_used_agent = used.agent " +
			"FROM used WHERE pats.id = used.id AND (pats.last_used_at IS NULL OR pats.last_used_at < used.at)"
		err := s.run(ctx, "record_uses", s.writer, func(db *gorm.DB) error { return db.Exec(query, args...).Error })
		if err != nil {
			return err
		}
	}
	return nil
}
