package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Missing ends a test that cannot run because component is not there. It skips
// the test, or fails it if PATROL_REQUIRE names the component. The detail says
// what was looked for.
func Missing(t testing.TB, component, detail string) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("PATROL_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, component) {
		t.Fatalf("%s is required by PATROL_REQUIRE, but is missing: %s", component, detail)
	}
	if name := os.Getenv("PATROL_SKIPPED"); name != "" {
		if err := appendLine(name, fmt.Sprintf("%s: %s (%s)", component, t.Name(), detail)); err != nil {
			t.Fatalf("note the skipped test: %v", err)
		}
	}
	t.Skipf("%s is missing: %s", component, detail)
}

// appendLine writes one line in one write, so that lines of test processes that
// run side by side do not mix.
func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Program returns the patrol that `make test` built for children, without the race
// detector, or "" if the test's own program is to be used.
func Program() string { return os.Getenv("PATROL_TEST_PROGRAM") }

// Long reports whether PATROL_LONG=1 asks for long runs.
func Long() bool { return os.Getenv("PATROL_LONG") == "1" }

// SQLite returns the URL of a database file that does not exist yet, in a
// folder that is removed when the test ends.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "patrol.db")
}

// EachDatabase runs test as a subtest for every database, with the URL of an
// empty one.
func EachDatabase(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}
