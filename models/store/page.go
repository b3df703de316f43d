package store

import (
	"encoding/base64"
	"strings"

	"patrol/models"
)

// Cursors name the last item of a page by its key, so that pages neither repeat
// nor lose what stays while other items come and go. They start with the kind of
// the list, and hold no more than ids and times.

const cursorSeparator = "\x1f"

func newCursor(kind string, key ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + cursorSeparator + strings.Join(key, cursorSeparator)))
}

// key returns what the page's cursor was made of, nil for the first page.
func (p Page) key(kind string, parts int) ([]string, error) {
	if p.After == "" {
		return nil, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.After)
	key := strings.Split(string(text), cursorSeparator)
	if err != nil || len(key) != parts+1 || key[0] != kind || !storable(key...) {
		return nil, badCursor()
	}
	return key[1:], nil
}

func badCursor() error {
	var v models.Invalid
	v.Add("after", "is not a cursor of this list")
	return v.Err()
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return DefaultPageSize
	}
	return p.Limit
}

// cut takes a list that was asked for one item more than the page holds, and
// returns the page and the cursor for the next one, "" on the last page.
func cut[Row, Item any](rows []Row, limit int, item func(Row) Item, cursor func(Row) string) ([]Item, string) {
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = cursor(rows[limit-1])
	}
	items := make([]Item, len(rows))
	for i, r := range rows {
		items[i] = item(r)
	}
	return items, next
}
