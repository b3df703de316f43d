package store_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models/store"
)

// TestPrivacyNamesEveryColumn holds docs/privacy.md to the schemas: each column is said to be
// personal, with a reason and a time, or not to be.
func TestPrivacyNamesEveryColumn(t *testing.T) {
	url := testenv.SQLite(t)
	main, err := store.Open(t.Context(), store.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, main.Close()) })
	_, _, err = main.Migrate(t.Context())
	require.NoError(t, err)
	log, err := store.OpenDecisions(t.Context(), store.Config{URL: store.DecisionsURL(url)}, false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, log.Close()) })
	_, _, err = log.Migrate(t.Context())
	require.NoError(t, err)

	var columns []string
	for _, url := range []string{url, store.DecisionsURL(url)} {
		db := raw(t, url)
		rows, err := db.QueryContext(t.Context(), `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'goose_%'`)
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var column string
			require.NoError(t, rows.Scan(&column))
			columns = append(columns, column)
		}
		require.NoError(t, rows.Err())
	}
	text, err := os.ReadFile("../../docs/privacy.md")
	require.NoError(t, err)
	var said []string
	name := regexp.MustCompile("`([a-z_0-9]+)`")
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		table := name.FindStringSubmatch(cells[1])[1]
		for _, column := range name.FindAllStringSubmatch(cells[2], -1) {
			said = append(said, table+"."+column[1])
		}
		if len(cells) > 4 {
			assert.NotEmpty(t, strings.TrimSpace(cells[3]), "why: %s", line)
			assert.NotEmpty(t, strings.TrimSpace(cells[4]), "how long: %s", line)
		}
	}
	assert.ElementsMatch(t, columns, said)
}
