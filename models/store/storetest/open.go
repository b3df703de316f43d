// Package storetest is the conformance suite of store, and opens stores for the
// tests of other packages.
package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"patrol/models/store"
)

// New opens a migrated store on the database at url, which may be one that
// another store uses, and closes it when the test ends. Each edit may change the
// configuration.
func New(t testing.TB, url string, edit ...func(*store.Config)) *store.Store {
	t.Helper()
	c := store.Config{URL: url}
	for _, e := range edit {
		e(&c)
	}
	s, err := store.Open(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, _, err = s.Migrate(context.Background())
	require.NoError(t, err)
	return s
}
