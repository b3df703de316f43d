package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A token is understood as people keep it, or what is wrong is named.
func TestPlainToken(t *testing.T) {
	const token = "patrol_6S9mDEJGzHGNXcY5_wPYR67y7pqz7Aoixk4rFvRvQGyAqkSIZ3vUGrN"
	utf16 := func(bigEndian bool, text string) string {
		b := []byte("\xff\xfe")
		if bigEndian {
			b = []byte("\xfe\xff")
		}
		for _, c := range []byte(text) {
			if bigEndian {
				b = append(b, 0, c)
			} else {
				b = append(b, c, 0)
			}
		}
		return string(b)
	}
	for name, text := range map[string]string{
		"as it is": token, "a line": token + "\n", "a line of Windows": token + "\r\n", "blanks": "  " + token + "\t", "an empty line before": "\n" + token,
		"a byte order mark": "\ufeff" + token + "\r\n", "UTF-16": utf16(false, token+"\r\n"), "UTF-16, the other way": utf16(true, token),
		"quotes": `"` + token + `"`, "single quotes": "'" + token + "'\n", "a header's value": "Bearer " + token, "in lower case": "bearer " + token + "\n",
		"a quoted header's value": `"Bearer ` + token + `"`,
	} {
		got, err := plainToken(text)
		if assert.NoError(t, err, name) {
			assert.Equal(t, token, got, name)
		}
	}
	for text, want := range map[string]string{
		token + "\n" + token:                "several lines",
		"PATROL_TOKEN=" + token + "\nX=1\n": "several lines",
		"export " + token:                   "several words",
	} {
		_, err := plainToken(text)
		if assert.ErrorContains(t, err, want) {
			assert.NotContains(t, err.Error(), "wPYR")
		}
	}
	empty, err := plainToken(" \n")
	assert.NoError(t, err)
	assert.Empty(t, empty)
}
