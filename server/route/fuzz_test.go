package route_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/route"
)

// What Parse accepts is canonical, and Go's own reader of URLs reads the written
// form as the same thing.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, target string) {
		r, err := route.Parse("GET", target, nil)
		if err != nil {
			require.ErrorIs(t, err, route.ErrAmbiguous)
			return
		}
		for _, s := range r.Segments {
			assert.NotContains(t, []string{"", ".", ".."}, strings.TrimSpace(s))
			assert.False(t, strings.ContainsAny(s, "/\\;\x00\r\n"), "%q", s)
			assert.True(t, utf8.ValidString(s))
			again, err := url.PathUnescape(s)
			assert.True(t, err != nil || again == s, "%q can be decoded again", s)
		}
		assert.Equal(t, "/"+strings.Join(r.Segments, "/"), cmp.Or(strings.TrimSuffix(r.Path, "/"), "/"))

		written := route.EscapedPath(r, 0)
		if query := route.EncodedQuery(r); query != "" {
			written += "?" + query
		}
		u, err := url.ParseRequestURI(written)
		require.NoError(t, err)
		assert.Equal(t, r.Path, u.Path)
		query, err := url.ParseQuery(u.RawQuery)
		require.NoError(t, err)
		assert.Equal(t, r.Query, map[string][]string(query))
		if len(written) > 16<<10 { // escaping can make a target longer
			return
		}
		again, err := route.Parse("GET", written, nil)
		require.NoError(t, err)
		r.Headers, again.Headers = nil, nil // functions, of no headers
		r.HeaderNames, again.HeaderNames = nil, nil
		assert.Equal(t, r, again)
	})
}

// A JSON body that is accepted names the same model to a parser in which the
// last of two keys wins, to one in which the first wins, and to one that ignores
// case.
func FuzzReadModelJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		model, err := readModel(jsonModel, bytes.NewReader(body), nil)
		inMemory, err2 := readModel(jsonModel, bytes.NewBuffer(bytes.Clone(body)), nil)
		require.Equal(t, err == nil, err2 == nil, "the two readers differ: %v, %v", err, err2)
		if err != nil {
			require.ErrorIs(t, err, route.ErrAmbiguous)
			return
		}
		require.Equal(t, model, inMemory)
		if len(bytes.TrimSpace(body)) == 0 {
			require.Empty(t, model)
			return
		}
		var folding struct{ Model string }
		require.NoError(t, json.Unmarshal(body, &folding))
		assert.Equal(t, folding.Model, model)

		var last map[string]any
		require.NoError(t, json.Unmarshal(body, &last))
		if last["model"] == nil {
			last["model"] = ""
		}
		assert.Equal(t, last["model"], model)
		assert.Equal(t, firstKey(t, body, "model"), model)
	})
}

// firstKey returns the value of the first member of that name.
func firstKey(t *testing.T, body []byte, key string) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	_, err := dec.Token()
	require.NoError(t, err)
	for dec.More() {
		name, err := dec.Token()
		require.NoError(t, err)
		var value any
		require.NoError(t, dec.Decode(&value))
		if name == key {
			return value
		}
	}
	return ""
}

// A form that is accepted names the same model to mime/multipart.
func FuzzReadModelMultipart(f *testing.F) {
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		header := http.Header{"Content-Type": {contentType}}
		model, err := readModel(formModel, bytes.NewReader(body), header)
		if err != nil {
			require.ErrorIs(t, err, route.ErrAmbiguous)
			return
		}
		if len(body) == 0 {
			require.Empty(t, model)
			return
		}
		_, params, err := mime.ParseMediaType(contentType)
		require.NoError(t, err)
		parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
		found := ""
		for {
			part, err := parts.NextPart()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.NotEmpty(t, part.FormName())
			content, err := io.ReadAll(part)
			require.NoError(t, err)
			if strings.EqualFold(part.FormName(), "model") {
				require.Empty(t, found)
				require.Empty(t, part.FileName())
				found = string(content)
			}
		}
		assert.Equal(t, found, model)
	})
}

// Nothing that is left can be masked further, and no token survives.
func FuzzMask(f *testing.F) {
	f.Fuzz(func(t *testing.T, before, after string) {
		masked := models.MaskTokens(before + pat + after)
		assert.NotContains(t, masked, pat)
		assert.Equal(t, masked, models.MaskTokens(masked))
	})
}
