package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store/storetest"
)

// A database that can only be read is good for decisions, and is known to be good for
// nothing else.
func TestReadOnlyDatabaseDecides(t *testing.T) {
	cluster := testenv.NewCluster(t)
	s := storetest.New(t, cluster.URL())
	ctx := t.Context()
	_, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
	require.NoError(t, s.Writable(ctx))
	_, err = s.Facts().Domain(ctx, "acme") // there is a connection
	require.NoError(t, err)
	cluster.Query("ALTER SYSTEM SET default_transaction_read_only = on")
	cluster.Query("SELECT CAST(pg_reload_conf() AS text)")
	require.Eventually(t, func() bool { return s.Writable(ctx) != nil }, time.Minute, 50*time.Millisecond)
	err = s.Writable(ctx)
	require.ErrorContains(t, err, "read-only")
	assert.Equal(t, models.CodeUnavailable, models.CodeOf(err))
	d, err := s.Facts().Domain(ctx, "acme")
	require.NoError(t, err)
	assert.NotNil(t, d)
	require.NoError(t, s.Ping(ctx))
}
