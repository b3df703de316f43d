package testenv_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestPostgresGivesEachTestItsOwnDatabase(t *testing.T) {
	one, two := testenv.Postgres(t), testenv.Postgres(t)
	assert.NotEqual(t, one, two)
	for _, url := range []string{one, two} {
		conn, err := pgx.Connect(context.Background(), url)
		require.NoError(t, err)
		_, err = conn.Exec(context.Background(), "CREATE TABLE a (b int)")
		assert.NoError(t, err, "the database is empty")
		require.NoError(t, conn.Close(context.Background()))
	}
}

// fake records how a test was ended.
type fake struct {
	testing.TB
	skipped, failed bool
}

func (f *fake) Helper()               {}
func (f *fake) Name() string          { return "TestOfIt" }
func (f *fake) Skipf(string, ...any)  { f.skipped = true }
func (f *fake) Fatalf(string, ...any) { f.failed = true }

func TestMissing(t *testing.T) {
	t.Run("skips and leaves a line for the summary", func(t *testing.T) {
		summary := filepath.Join(t.TempDir(), "skipped")
		t.Setenv("PATROL_REQUIRE", "browser")
		t.Setenv("PATROL_SKIPPED", summary)
		f := &fake{TB: t}
		testenv.Missing(f, "postgres", "not installed")
		assert.True(t, f.skipped)
		assert.False(t, f.failed)
		text, err := os.ReadFile(summary)
		require.NoError(t, err)
		assert.Equal(t, "postgres: TestOfIt (not installed)\n", string(text))
	})
	t.Run("fails where the component is required", func(t *testing.T) {
		t.Setenv("PATROL_REQUIRE", "browser, postgres")
		t.Setenv("PATROL_SKIPPED", filepath.Join(t.TempDir(), "skipped")) // not this run's own
		f := &fake{TB: t}
		testenv.Missing(f, "postgres", "not installed")
		assert.True(t, f.failed)
	})
}
