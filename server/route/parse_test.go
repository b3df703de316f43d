package route_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/route"
)

const (
	pat     = "patrol_0123456789abcdef_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef012345"
	session = "patrols_3q2-7wEjRWeJq83vEjRWeJq83v_SIzM0VniavN7v"
)

func TestParsePath(t *testing.T) {
	for name, c := range map[string]struct {
		target, path, escaped string
		segments              []string
	}{
		"root":                       {"/", "/", "/", []string{}},
		"plain":                      {"/proxy/acme/v1/models", "/proxy/acme/v1/models", "/proxy/acme/v1/models", []string{"proxy", "acme", "v1", "models"}},
		"trailing slash":             {"/v1/models/", "/v1/models/", "/v1/models/", []string{"v1", "models"}},
		"needlessly encoded":         {"/%76%31/m%6Fdels", "/v1/models", "/v1/models", []string{"v1", "models"}},
		"colon and at":               {"/api/llama3:8b@x", "/api/llama3:8b@x", "/api/llama3:8b@x", []string{"api", "llama3:8b@x"}},
		"encoded colon":              {"/api/llama3%3A8b", "/api/llama3:8b", "/api/llama3:8b", []string{"api", "llama3:8b"}},
		"plus is a plus":             {"/a+b", "/a+b", "/a+b", []string{"a+b"}},
		"space":                      {"/a%20b", "/a b", "/a%20b", []string{"a b"}},
		"question mark in a segment": {"/a%3Fb", "/a?b", "/a%3Fb", []string{"a?b"}},
		"hash in a segment":          {"/a%23b", "/a#b", "/a%23b", []string{"a#b"}},
		"percent sign":               {"/100%25", "/100%", "/100%25", []string{"100%"}},
		"utf-8":                      {"/mod%C3%A8le", "/modèle", "/mod%C3%A8le", []string{"modèle"}},
		"three dots":                 {"/.../x", "/.../x", "/.../x", []string{"...", "x"}},
		"dotfile":                    {"/.well-known/..x", "/.well-known/..x", "/.well-known/..x", []string{".well-known", "..x"}},
		"marks that need no escape":  {`/a"<b>^c|{d}`, `/a"<b>^c|{d}`, "/a%22%3Cb%3E%5Ec%7C%7Bd%7D", []string{`a"<b>^c|{d}`}},
		"token":                      {"/v1/" + pat + "/x", "/v1/patrol_***/x", "/v1/patrol_***/x", []string{"v1", "patrol_***", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := route.Parse("GET", c.target, nil)
			require.NoError(t, err)
			assert.Equal(t, c.path, r.Path)
			assert.Equal(t, c.segments, r.Segments)
			assert.Equal(t, c.escaped, route.EscapedPath(r, 0))
			assert.Nil(t, r.Body)
		})
	}
}

// evasions are request targets that some servers read in another way than
// others do.
var evasions = map[string]string{
	"empty":                          "",
	"asterisk form":                  "*",
	"absolute form":                  "http://internal/v1/models",
	"absolute form, other case":      "HTTP://internal/v1/models",
	"authority form":                 "internal:443",
	"scheme-relative":                "//internal/v1/models",
	"relative":                       "v1/models",
	"query only":                     "?x=1",
	"fragment":                       "/v1/models#x",
	"two slashes":                    "/v1//models",
	"two slashes at the end":         "/v1/models//",
	"only slashes":                   "///",
	"dot segment":                    "/v1/./models",
	"dot at the end":                 "/v1/models/.",
	"double dot":                     "/v1/models/../completions",
	"double dot at the end":          "/v1/models/..",
	"encoded dots":                   "/v1/models/%2e%2e/completions",
	"half encoded dots":              "/v1/models/.%2E/completions",
	"encoded dot":                    "/v1/%2e/models",
	"dots and a blank":               "/v1/..%20/models",
	"blank segment":                  "/v1/%20/models",
	"dots and a semicolon":           "/v1/..;/models",
	"semicolon":                      "/v1/models;x=y",
	"encoded semicolon":              "/v1/models%3bx",
	"encoded slash":                  "/v1%2fmodels",
	"encoded slash, upper case":      "/v1/models%2F..",
	"backslash":                      `/v1\models`,
	"encoded backslash":              "/v1/..%5cmodels",
	"twice encoded slash":            "/v1%252fmodels",
	"twice encoded dots":             "/v1/%252e%252e/models",
	"twice encoded letter":           "/v1/%256dodels",
	"three times encoded":            "/v1/%25252e/models",
	"nul":                            "/v1/models%00.json",
	"line feed":                      "/v1/models%0a",
	"carriage return":                "/v1/models%0d%0aHost:%20x",
	"tab":                            "/v1/%09models",
	"delete":                         "/v1/models%7f",
	"c1 control":                     "/v1/models%c2%85",
	"raw blank":                      "/v1/models x",
	"raw nul":                        "/v1/models\x00",
	"raw line feed":                  "/v1/models\n",
	"raw utf-8":                      "/v1/modèles",
	"incomplete escape":              "/v1/models%",
	"short escape":                   "/v1/models%2",
	"escape of no number":            "/v1/models%zz",
	"unicode escape":                 "/v1/%u002e%u002e/models",
	"overlong slash":                 "/v1%c0%afmodels",
	"overlong dot":                   "/v1/%c0%ae%c0%ae/models",
	"overlong slash in three bytes":  "/v1%e0%80%afmodels",
	"overlong nul":                   "/v1/models%c0%80",
	"surrogate":                      "/v1/%ed%a0%80",
	"latin-1":                        "/v1/mod%e8les",
	"query: semicolon":               "/v1/models?a=1;b=2",
	"query: short escape":            "/v1/models?a=%2",
	"query: escape of no number":     "/v1/models?%zz=1",
	"query: not utf-8":               "/v1/models?a=%ff",
	"query: nul":                     "/v1/models?a=%00",
	"query: no name":                 "/v1/models?=1",
	"query: twice encoded name":      "/v1/models?%2561=1",
	"query: line feed in a name":     "/v1/models?a%0a=1",
	"query: method":                  "/v1/models?_method=DELETE",
	"query: method, encoded":         "/v1/models?%5fm%65thod=DELETE",
	"query: method, other case":      "/v1/models?_METHOD=DELETE",
	"query: method as in a header":   "/v1/models?X-HTTP-Method-Override=DELETE",
	"query: method, Google's":        "/v1/models?$httpMethod=DELETE",
	"query: raw blank":               "/v1/models?a=b c",
	"query: fragment":                "/v1/models?a=b#c",
	"target of more than 16 KiB":     "/" + strings.Repeat("a", 16<<10),
	"query of more than 16 KiB":      "/?" + strings.Repeat("a", 16<<10),
	"encoded slash at the very end":  "/v1/models/%2f",
	"encoded slash at the beginning": "/%2fv1/models",
}

func TestParseRefusesEvasions(t *testing.T) {
	for name, target := range evasions {
		t.Run(name, func(t *testing.T) {
			_, err := route.Parse("GET", target, nil)
			require.ErrorIs(t, err, route.ErrAmbiguous)
			assert.NotContains(t, err.Error(), "internal", "the text quotes the request")
		})
	}
}

func TestParseMethod(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH"} {
		r, err := route.Parse(method, "/", nil)
		require.NoError(t, err, method)
		assert.Equal(t, method, r.Method)
	}
	for _, method := range []string{"", "get", "Get", "GET ", "G\x00T", "G_T", "ＧＥＴ", "CONNECT", "TRACE", "TRACK", strings.Repeat("A", 33)} {
		_, err := route.Parse(method, "/", nil)
		require.ErrorIs(t, err, route.ErrAmbiguous, "%q", method)
	}
}

func TestParseQuery(t *testing.T) {
	for name, c := range map[string]struct {
		raw   string
		query map[string][]string
		again string
	}{
		"none":              {"", map[string][]string{}, ""},
		"only separators":   {"&&", map[string][]string{}, ""},
		"plain":             {"a=1&b=2", map[string][]string{"a": {"1"}, "b": {"2"}}, "a=1&b=2"},
		"sorted":            {"b=2&a=1", map[string][]string{"a": {"1"}, "b": {"2"}}, "a=1&b=2"},
		"duplicates":        {"m=x&o=1&m=y", map[string][]string{"m": {"x", "y"}, "o": {"1"}}, "m=x&m=y&o=1"},
		"encoded duplicate": {"m=x&%6d=y", map[string][]string{"m": {"x", "y"}}, "m=x&m=y"},
		"no value":          {"a&b=", map[string][]string{"a": {""}, "b": {""}}, "a=&b="},
		"equals sign":       {"a=b=c", map[string][]string{"a": {"b=c"}}, "a=b=c"},
		"plus and space":    {"a=b+c%20d%2Be", map[string][]string{"a": {"b c d+e"}}, "a=b%20c%20d%2Be"},
		"separators inside": {"a=b%26c%3Bd%3De%23f", map[string][]string{"a": {"b&c;d=e#f"}}, "a=b%26c%3Bd=e%23f"},
		"a URL":             {"u=http://x/%3Fq%3D%2520", map[string][]string{"u": {"http://x/?q=%20"}}, "u=http://x/%3Fq=%2520"},
		"line feed":         {"a=b%0Ac", map[string][]string{"a": {"b\nc"}}, "a=b%0Ac"},
		"brackets":          {"a[]=1&a[]=2", map[string][]string{"a[]": {"1", "2"}}, "a%5B%5D=1&a%5B%5D=2"},
		"method":            {"method=DELETE", map[string][]string{"method": {"DELETE"}}, "method=DELETE"},
		"token":             {"token=" + pat + "&" + pat + "=1", map[string][]string{"token": {"patrol_***"}, "patrol_***": {"1"}}, "patrol_%2A%2A%2A=1&token=patrol_%2A%2A%2A"},
		"encoded token":     {"token=%70atrol%5F" + pat[7:], map[string][]string{"token": {"patrol_***"}}, "token=patrol_%2A%2A%2A"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := route.Parse("GET", "/x?"+c.raw, nil)
			require.NoError(t, err)
			assert.Equal(t, c.query, r.Query)
			assert.Equal(t, strings.ReplaceAll(c.again, "%2A", "*"), route.EncodedQuery(r))
		})
	}
}

func TestParseHeaders(t *testing.T) {
	r, err := route.Parse("GET", "/x", http.Header{
		"Accept":                 {"text/html", "*/*"},
		"X-Team":                 {"red"},
		"X-Note":                 {"use " + pat + " now", session},
		"X-Latin":                {"mod\xe8le"},
		"authorization":          {"Bearer " + pat},
		"Proxy-Authorization":    {"Basic eDp5"},
		"X-Amz-Security-Token":   {"x"},
		"Cookie":                 {"a=b"},
		"Set-Cookie":             {"a=b"},
		"X-Api-Key":              {"k"},
		"Api-Key":                {"k"},
		"X-Goog-Api-Key":         {"k"},
		"X-Auth-Token":           {"k"},
		"X-Client-Secret":        {"k"},
		"X-Patrol-User":          {"root"},
		"X_Patrol_Domain":        {"other"},
		"X.Patrol.Domain":        {"other"},
		"Sec-Websocket-Protocol": {"realtime, key.abc"},
	})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"accept": "text/html, */*", "x-team": "red", "x-note": "use patrol_*** now, patrols_***", "x-latin": "mod\uFFFDle",
	}, r.Headers())
}

func TestParseRefusesMethodOverride(t *testing.T) {
	for _, name := range []string{
		"X-HTTP-Method-Override", "x-http-method-override", "X-Http-Method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE", "X.Http.Method",
	} {
		_, err := route.Parse("POST", "/x", http.Header{name: {"DELETE"}})
		require.ErrorIs(t, err, route.ErrAmbiguous, name)
	}
}

func TestEscapedPathSkips(t *testing.T) {
	for target, want := range map[string]string{
		"/proxy/acme":            "/",
		"/proxy/acme/":           "/",
		"/proxy/acme/v1/models":  "/v1/models",
		"/proxy/acme/v1/models/": "/v1/models/",
		"/":                      "/",
	} {
		r, err := route.Parse("GET", target, nil)
		require.NoError(t, err)
		assert.Equal(t, want, route.EscapedPath(r, 2), target)
	}
}

func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"nothing here":                    "nothing here",
		"patrol":                          "patrol",
		"patrol_":                         "patrol_",
		"patrol_small":                    "patrol_small",
		"patrol_fine_tuned_on_everything": "patrol_fine_tuned_on_everything",
		pat:                               "patrol_***",
		"a" + pat + "%20b":                "apatrol_***%20b",
		pat[:50]:                          "patrol_***",
		pat[:30]:                          pat[:30],
		pat + pat:                         "patrol_***", // the characters run on
		pat + "," + pat:                   "patrol_***,patrol_***",
		"patrol_" + pat:                   "patrol_patrol_***",
		"patrols_" + pat:                  "patrols_***",
		session:                           "patrols_***",
		"Bearer " + session + ", x":       "Bearer patrols_***, x",
		"patrols_short":                   "patrols_short",
	} {
		got := models.MaskTokens(text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, got, models.MaskTokens(got), "masking %q again", got)
	}
}

func TestMaskKnowsRealTokens(t *testing.T) {
	_, err := models.ParseToken(pat)
	require.Error(t, err, "the token of these tests must not be a real one")
	assert.Len(t, pat, models.TokenLength)
}
