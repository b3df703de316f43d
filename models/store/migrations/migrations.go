// Package migrations holds the versioned SQL that makes and changes the schema,
// one folder per database. A migration that was released is never edited: the
// next one changes what it made. Numbers are the same on every database.
//
// The migrations only go up. Going back to an older binary means restoring the
// backup that was made before the upgrade, since a newer binary may have written
// what an older schema cannot hold.
package migrations

import "embed"

// FS has the folders sqlite and postgres with files named NNNN_name.sql, and the
// same two under decisions, for the decision log, whose numbers are its own.
//
//go:embed sqlite/*.sql postgres/*.sql decisions/*/*.sql
var FS embed.FS
