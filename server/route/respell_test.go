package route_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/route"
)

func respelled(t *testing.T, need *models.BodyNeed, body string, header http.Header, spellings map[string]string) string {
	t.Helper()
	edits, err := route.RespellBody(need, strings.NewReader(body), header, spellings)
	require.NoError(t, err)
	r, length := route.EditedReader(strings.NewReader(body), int64(len(body)), edits)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Len(t, out, int(length))
	return string(out)
}

func TestOnlyTheBytesOfNamesChange(t *testing.T) {
	need := &models.BodyNeed{Format: models.BodyJSON, Fields: []string{"model", "name"}, Each: []string{"models", "fallbacks", "tools[].model"}}
	spellings := map[string]string{"LAB-1": "lab-1", "x:latest": "x", "y": "a-longer-name"}
	for in, want := range map[string]string{
		`{"model":"LAB-1"}`: `{"model":"lab-1"}`,
		" {\n\t\"model\" :\t\"LAB-1\" , \"prompt\":\"LAB-1\"}\r\n":           " {\n\t\"model\" :\t\"lab-1\" , \"prompt\":\"LAB-1\"}\r\n",
		`{"model":"\u004cAB-1","x":1}`:                                       `{"model":"lab-1","x":1}`,
		`{"model":"x:latest","name":"x:latest","n":1e2}`:                     `{"model":"x","name":"x","n":1e2}`,
		`{"messages":[{"model":"LAB-1","content":"LAB-1"}],"model":"y"}`:     `{"messages":[{"model":"LAB-1","content":"LAB-1"}],"model":"a-longer-name"}`,
		`{"options":{"model":"LAB-1"},"model":"z"}`:                          `{"options":{"model":"LAB-1"},"model":"z"}`,
		`{"models":["LAB-1","z","y"],"fallbacks":[{"model":"LAB-1","p":1}]}`: `{"models":["lab-1","z","a-longer-name"],"fallbacks":[{"model":"lab-1","p":1}]}`,
		`{"fallbacks":{"LAB-1":"LAB-1"}}`:                                    `{"fallbacks":{"LAB-1":"lab-1"}}`,
		`{"tools":[{"type":"t","model":"LAB-1"}],"LAB-1":"LAB-1"}`:           `{"tools":[{"type":"t","model":"lab-1"}],"LAB-1":"LAB-1"}`,
		`{}`: `{}`,
	} {
		assert.Equal(t, want, respelled(t, need, in, nil, spellings), in)
	}
}

func TestNamesInForms(t *testing.T) {
	need := &models.BodyNeed{Format: models.BodyMultipart, Fields: []string{"model"}}
	header := http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}
	file := strings.Repeat("LAB-1 ", 30_000)
	form := func(model, headers string) string {
		return "--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n" + file +
			"\r\n--b\r\nContent-Disposition: form-data; name=model\r\n" + headers + "\r\n" + model +
			"\r\n--b\r\nContent-Disposition: form-data; name=prompt\r\n\r\nLAB-1:latest\r\n--b--\r\n"
	}
	spellings := map[string]string{"LAB-1:latest": "lab-1", "LAB-2": "lab-2"}
	assert.Equal(t, form("lab-1", ""), respelled(t, need, form("LAB-1:latest", ""), header, spellings))
	assert.Equal(t, form("z", ""), respelled(t, need, form("z", ""), header, spellings))
	assert.Equal(t, form("lab-2", "Content-Length: 5\r\n"), respelled(t, need, form("LAB-2", "Content-Length: 5\r\n"), header, spellings))
	_, err := route.RespellBody(need, strings.NewReader(form("LAB-1:latest", "Content-Length: 12\r\n")), header, spellings)
	assert.ErrorIs(t, err, route.ErrAmbiguous)
}

func TestNamesInTargets(t *testing.T) {
	for _, c := range []struct{ target, from, to, path, query string }{
		{"/proxy/acme/v1/models/library/LAB-1", "library/LAB-1", "lab-1", "/v1/models/lab-1", ""},
		{"/proxy/acme/v1/models/LAB-1/", "LAB-1", "lab-1", "/v1/models/lab-1/", ""},
		{"/proxy/acme/v1/models/x:latest", "x:latest", "me/x", "/v1/models/me/x", ""},
		{"/proxy/LAB-1/v1/models/LAB-1", "LAB-1", "lab-1", "/v1/models/lab-1", ""},
		{"/proxy/acme/LAB-1/LAB-1", "LAB-1", "lab-1", "", ""}, // which one?
		{"/proxy/acme/v1/show?a=LAB-1&model=LAB-2", "LAB-2", "lab-2", "/v1/show", "a=LAB-1&model=lab-2"},
		{"/proxy/acme/v1/show?a=LAB-1&model=LAB-1", "LAB-1", "lab-1", "", ""},
		{"/proxy/acme/v1/show", "LAB-1", "lab-1", "", ""},
	} {
		r, err := route.Parse(http.MethodGet, c.target, nil)
		require.NoError(t, err)
		before := route.EncodedQuery(r)
		got, ok := route.RespellPath(r, 2, c.from, c.to)
		if !ok {
			got, ok = route.RespellQuery(r, c.from, c.to)
		}
		require.Equal(t, c.path != "", ok, c.target)
		if ok {
			assert.Equal(t, c.path, route.EscapedPath(got, 2))
			assert.Equal(t, c.query, route.EncodedQuery(got))
			assert.Equal(t, "/"+strings.Join(got.Segments, "/"), strings.TrimSuffix(got.Path, "/"))
		}
		assert.Equal(t, before, route.EncodedQuery(r), "what was read does not change")
	}
}
