package main

import (
	"context"

	"patrol/models"
	"patrol/models/store"
)

// ledger is the store as the authorizer reads and writes it: the same, in the
// domain's words for changes and uses.
type ledger struct{ *store.Store }

// Changes is [store.Store.Changes].
func (l ledger) Changes(ctx context.Context, after int64, limit int) ([]models.Change, bool, error) {
	changes, complete, err := l.Store.Changes(ctx, after, limit)
	return toChanges(changes), complete, err
}

// RecordUses is [store.Store.RecordUses].
func (l ledger) RecordUses(ctx context.Context, uses []models.Use) error {
	out := make([]store.Use, len(uses))
	for i, u := range uses {
		out[i] = store.Use(u)
	}
	return l.Store.RecordUses(ctx, out)
}

func toChanges(changes []store.Change) []models.Change {
	out := make([]models.Change, len(changes))
	for i, c := range changes {
		out[i] = models.Change{Seq: c.Seq, Kind: models.ChangeKind(c.Kind), Key: c.Key, Key2: c.Key2, At: c.At}
	}
	return out
}
