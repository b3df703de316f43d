package rest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/models"
)

func TestParseJSON(t *testing.T) {
	pat := "patrol_" + strings.Repeat("a", 16) + "_" + strings.Repeat("b", 38)
	for _, tc := range []struct {
		name, body string
		code       models.Code // "" if it is read
		field      string      // of a CodeInvalid
		says       string
	}{
		{"whole", `{"name":"ci","scopes":[{"domain":"a","entity_type":"models","entity":"*","operation":"read"}],"expires_in":"30d"}`, "", "", ""},
		{"space around", " \n{\"name\":\"ci\"}\r\n\t", "", "", ""},
		{"a time", `{"expires_at":"2030-01-31T12:00:00Z"}`, "", "", ""},
		{"null in a text", `{"name":"null","description":"a null b"}`, "", "", ""},

		{"empty", ``, models.CodeMalformed, "", "has no body"},
		{"only space", "  \n", models.CodeMalformed, "", "has no body"},
		{"an array", `[]`, models.CodeMalformed, "", "must be a JSON object"},
		{"a string", `"x"`, models.CodeMalformed, "", "must be a JSON object"},
		{"null", `null`, models.CodeMalformed, "", "must be a JSON object"},
		{"a number", `1`, models.CodeMalformed, "", "must be a JSON object"},
		{"cut", `{"name":"ci"`, models.CodeMalformed, "", "not valid JSON"},
		{"trailing brace", `{"name":"ci"}}`, models.CodeMalformed, "", "not valid JSON"},
		{"second object", `{"name":"ci"} {}`, models.CodeMalformed, "", "not valid JSON"},
		{"trailing NUL", "{}\x00", models.CodeMalformed, "", "not valid JSON"},
		{"comment", `{/**/}`, models.CodeMalformed, "", "not valid JSON"},
		{"single quotes", `{'name':1}`, models.CodeMalformed, "", "not valid JSON"},
		{"byte order mark", "\ufeff{}", models.CodeMalformed, "", "not valid JSON"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", models.CodeMalformed, "", "not valid JSON"},
		{"twice", `{"name":"a","name":"b"}`, models.CodeMalformed, "", "the field name is there twice"},
		{"twice, escaped", `{"name":"a","\u006eame":"b"}`, models.CodeMalformed, "", "there twice"},
		{"twice, deep", `{"scopes":[{"domain":"a","domain":"b"}]}`, models.CodeMalformed, "", "scopes[0].domain is there twice"},

		{"unknown", `{"nmae":"ci"}`, models.CodeInvalid, "nmae", "is not a field"},
		{"other case", `{"Name":"ci"}`, models.CodeInvalid, "Name", "is not a field"},
		{"unknown, deep", `{"scopes":[{},{"role":1}]}`, models.CodeInvalid, "scopes[1].role", "is not a field"},
		{"a token for a name", `{"` + pat + `":1}`, models.CodeInvalid, "patrol_***", "is not a field"},
		{"null for a string", `{"name":null}`, models.CodeInvalid, "name", "must be a string"},
		{"null for a string, deep", `{"name":"x","scopes":[{"domain":null}]}`, models.CodeInvalid, "scopes[0].domain", "must be a string"},
		{"number for a string", `{"name":5}`, models.CodeInvalid, "name", "must be a string"},
		{"object for a string", `{"name":{}}`, models.CodeInvalid, "name", "must be a string"},
		{"string for an array", `{"scopes":"x"}`, models.CodeInvalid, "scopes", "must be an array"},
		{"string for an object", `{"scopes":["x"]}`, models.CodeInvalid, "scopes[0]", "must be an object"},
		{"number, deep", `{"scopes":[{"domain":"a"},{"operation":1}]}`, models.CodeInvalid, "scopes[1].operation", "must be a string"},
		{"not a time", `{"expires_at":"tomorrow"}`, models.CodeInvalid, "expires_at", "RFC 3339"},
		{"number for a time", `{"expires_at":1}`, models.CodeInvalid, "expires_at", "RFC 3339"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var in api.NewPAT
			err := parseJSON([]byte(tc.body), &in)
			require.Equal(t, tc.code, models.CodeOf(err), "%v", err)
			if err == nil {
				return
			}
			text := problemOf(err).Message
			if tc.code == models.CodeInvalid {
				fields := problemOf(err).Fields
				require.Len(t, fields, 1)
				assert.Equal(t, tc.field, fields[0].Field)
				text = fields[0].Message
			}
			assert.Contains(t, text, tc.says)
			assert.NotContains(t, err.Error(), pat)
		})
	}
}

// problemOf returns what an error tells callers.
func problemOf(err error) *models.Error {
	e, _ := errors.AsType[*models.Error](err)
	return e
}

func TestParseJSONNamesBooleans(t *testing.T) {
	var in api.UserPatch
	err := parseJSON([]byte(`{"disabled":"yes"}`), &in)
	require.Equal(t, models.CodeInvalid, models.CodeOf(err))
	assert.Equal(t, []models.FieldError{{Field: "disabled", Message: "must be true or false"}}, problemOf(err).Fields)
}

func TestReadJSON(t *testing.T) {
	const limit = 4 << 10
	fits := `{"name":"` + strings.Repeat("x", limit-11) + `"}`
	require.Len(t, fits, limit)
	for _, tc := range []struct {
		name, contentType, encoding, body string
		chunked                           bool
		code                              models.Code
	}{
		{"no type", "", "", `{}`, false, ""},
		{"JSON", "application/json", "", `{}`, false, ""},
		{"JSON in UTF-8", "application/json; charset=UTF-8", "identity", `{}`, false, ""},
		{"a JSON dialect", "application/merge-patch+json", "", `{}`, false, ""},
		{"largest", "", "", fits, false, ""},
		{"largest, chunked", "", "", fits, true, ""},

		{"a form", "application/x-www-form-urlencoded", "", `{}`, false, models.CodeMediaType},
		{"multipart", "multipart/form-data; boundary=x", "", `{}`, false, models.CodeMediaType},
		{"plain text", "text/plain", "", `{}`, false, models.CodeMediaType},
		{"another charset", "application/json; charset=utf-16", "", `{}`, false, models.CodeMediaType},
		{"a bad type", "application/", "", `{}`, false, models.CodeMediaType},
		{"compressed", "application/json", "gzip", `{}`, false, models.CodeMediaType},
		{"too large", "", "", fits + " ", false, models.CodeTooLarge},
		{"too large, chunked", "", "", fits + " ", true, models.CodeTooLarge},
		{"empty", "", "", "", false, models.CodeMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tc.body))
			if tc.chunked {
				r.ContentLength = -1
			}
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			if tc.encoding != "" {
				r.Header.Set("Content-Encoding", tc.encoding)
			}
			var in api.NewUser
			assert.Equal(t, tc.code, models.CodeOf(readJSON(httptest.NewRecorder(), r, limit, &in)))
		})
	}
	t.Run("cut off", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodPost, "/", iotest.TimeoutReader(strings.NewReader(`{"name":`)))
		var in api.NewUser
		assert.Equal(t, models.CodeMalformed, models.CodeOf(readJSON(httptest.NewRecorder(), r, limit, &in)))
	})
}

// FuzzParseJSON holds that whatever is sent is read or refused for the sender's
// fault, without a crash, in an answer that is valid text.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"token":"patrol_x","domain":"acme","entity_type":"models","entity":"*","operation":"read","context":{"a":[1,2.5e3,null,true]}}`,
		`{"domain":1}`, `{"domain":"a","domain":"b"}`, `{"a":{"b":[{"c":1}]}}`, `[]`, `nul`, "\"\\ud800\"", `{"context":[[[[`,
		`{"requests":[{"domain":"acme"},{"operation":0}]}`, `{"expires_at":"2030-02-30T00:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, dst := range []any{&authorizeBody{}, &batchBody{}, &api.NewPAT{}, &api.UserPatch{}, &api.SignIn{}} {
			sent := bytes.Clone(body)
			err := parseJSON(sent, dst)
			require.True(t, bytes.Equal(sent, body), "the body was written into")
			switch e := problemOf(err); models.CodeOf(err) {
			case "":
				if in, ok := dst.(*authorizeBody); ok {
					_, err := in.request("", nil)
					require.Contains(t, []models.Code{"", models.CodeInvalid}, models.CodeOf(err), "%v", err)
				}
			case models.CodeMalformed:
				require.True(t, utf8.ValidString(e.Message))
			case models.CodeInvalid:
				require.Len(t, e.Fields, 1)
				require.True(t, utf8.ValidString(e.Fields[0].Field), "%q", e.Fields[0].Field)
				require.NotEmpty(t, e.Fields[0].Message)
			default:
				t.Fatalf("%T: %v", dst, err)
			}
		}
	})
}

func TestContextIsBounded(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, tc := range []struct {
		name, context string
		ok            bool
	}{
		{"none", `null`, true},
		{"numbers keep their digits", `{"id":12345678901234567890}`, true},
		{"as deep as may be", deep(models.MaxContextDepth), true},
		{"too deep", deep(models.MaxContextDepth + 1), false},
		{"too long a number", `{"n":[` + strings.Repeat("1", 65) + `]}`, false},
		{"too large a number", `{"n":1e999}`, false},
		{"an array", `[]`, false},
		{"a string", `"x"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var in authorizeBody
			body := fmt.Sprintf(`{"domain":"a","entity_type":"models","entity":"*","operation":"read","context":%s}`, tc.context)
			require.NoError(t, parseJSON([]byte(body), &in))
			_, err := in.request("", nil)
			if tc.ok {
				require.NoError(t, err)
				return
			}
			require.Equal(t, models.CodeInvalid, models.CodeOf(err))
			assert.Equal(t, "context", problemOf(err).Fields[0].Field)
		})
	}
}
