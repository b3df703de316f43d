package gateway_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/server/gateway"
	"patrol/server/route"
)

func loadLocations(t testing.TB) map[string]string {
	t.Helper()
	content, err := os.ReadFile("testdata/locations.yaml")
	require.NoError(t, err)
	var cases map[string]string
	require.NoError(t, yaml.UnmarshalStrict(content, &cases))
	require.Greater(t, len(cases), 100)
	return cases
}

func TestLocation(t *testing.T) {
	var location string
	w := newWorld(t, setup{
		upstream: func(w http.ResponseWriter, _ *http.Request) {
			for _, name := range []string{"Location", "Content-Location"} {
				w.Header()[name] = []string{location}
			}
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		config: func(c *gateway.Config) {
			c.Upstreams[gateway.AnyDomain] = gateway.Upstream{URL: c.Upstreams[gateway.AnyDomain].URL + "/base"}
			c.PublicURL = "https://patrol.example"
		},
	})
	upstream, err := url.Parse(w.upstream.URL)
	require.NoError(t, err)
	fill := strings.NewReplacer("{upstream}", w.upstream.URL, "{upstream host}", upstream.Host, "{upstream name}", upstream.Hostname(), "{here}", w.front.URL)
	for in, want := range loadLocations(t) {
		location = fill.Replace(in)
		if strings.ContainsAny(location, "\r\n") {
			continue // which no header can hold
		}
		res := w.get("/proxy/acme/v1/list?page=1")
		assert.Equal(t, http.StatusTemporaryRedirect, res.StatusCode, in)
		assert.Equal(t, want, res.Header.Get("Location"), in)
		assert.Equal(t, want, res.Header.Get("Content-Location"), in)
		assertStays(t, res.Header.Get("Location"))
	}
}

// assertStays checks what a client at https://patrol.example/proxy/acme/v1/list is told,
// with the eyes of several readers.
func assertStays(t *testing.T, told string) {
	t.Helper()
	if told == "" {
		return
	}
	at, err := url.Parse("https://patrol.example/proxy/acme/v1/list?page=1")
	require.NoError(t, err)
	ref, err := url.Parse(told)
	require.NoError(t, err)
	host, path := asBrowser(t, at, told)
	to := at.ResolveReference(ref)
	require.Equal(t, to.Hostname(), host, "readers disagree on the host of %q", told)
	if host != "patrol.example" {
		require.NotEmpty(t, host)
		addr, err := netip.ParseAddr(host)
		require.True(t, err != nil || !addr.Unmap().IsLoopback() && !addr.IsUnspecified(), told)
		require.NotContains(t, strings.TrimSuffix(host, "."), "localhost", told)
		return
	}
	for _, p := range []string{to.EscapedPath(), path} {
		require.True(t, p == "/proxy/acme" || strings.HasPrefix(p, "/proxy/acme/"), "%q leads to %s", told, p)
	}
	target, _, _ := strings.Cut(told, "#")
	r, err := route.Parse(http.MethodGet, target, nil)
	require.NoError(t, err, "the client is refused when it comes to %q", told)
	require.Equal(t, []string{"proxy", "acme"}, r.Segments[:2])
}

// asBrowser resolves a reference the way the WHATWG URL standard does where it differs
// from RFC 3986: tabs and line ends vanish, backslashes are slashes, slashes behind the
// scheme are as many as there are, and encoded dots are dots.
func asBrowser(t *testing.T, at *url.URL, ref string) (host, path string) {
	t.Helper()
	ref = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(strings.TrimFunc(ref, func(r rune) bool { return r <= ' ' }))
	ref, _, _ = strings.Cut(ref, "#")
	ref, _, _ = strings.Cut(ref, "?")
	ref = strings.ReplaceAll(ref, `\`, "/")
	for _, scheme := range []string{"http:", "https:", ""} {
		rest, ok := strings.CutPrefix(strings.ToLower(ref), scheme)
		if !ok {
			continue
		}
		rest = ref[len(ref)-len(rest):]
		if trimmed := strings.TrimLeft(rest, "/"); scheme != "" && (strings.HasPrefix(rest, "/") || scheme != "https:") || strings.HasPrefix(rest, "//") {
			ref = scheme + "//" + trimmed
		} else {
			ref = rest
		}
		break
	}
	u, err := url.Parse(ref)
	require.NoError(t, err)
	to := at.ResolveReference(u)
	var kept []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(to.EscapedPath(), "/"), "/") {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	return to.Hostname(), "/" + strings.Join(kept, "/")
}

func FuzzLocation(f *testing.F) {
	for in := range loadLocations(f) {
		f.Add(strings.NewReplacer("{upstream}", "http://10.0.0.7:11434", "{upstream host}", "10.0.0.7:11434", "{upstream name}", "10.0.0.7", "{here}", "http://patrol.example").Replace(in))
	}
	f.Fuzz(func(t *testing.T, in string) {
		assertStays(t, gateway.Translate(in, "http://10.0.0.7:11434/base", "http://10.0.0.7:11434/base/v1/list?page=1", "/proxy/acme", "patrol.example", true))
		inside := gateway.Translate(in, "http://10.0.0.7:11434", "http://10.0.0.7:11434/v1/list", "/proxy/acme", "patrol.example", false)
		require.True(t, inside == "" || strings.HasPrefix(inside, "/proxy/acme"), inside)
		assertStays(t, inside)
	})
}

// TestWhoLeadsToAnotherHost checks which headers may lead away, and of which answers.
func TestWhoLeadsToAnotherHost(t *testing.T) {
	const away, inside = "https://files.example/x", "/v1/files/1"
	var header, location string
	var status int
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header()[header] = []string{location}
		w.WriteHeader(status)
	}})
	for _, c := range []struct {
		method, header, location string
		status                   int
		want                     string
		send                     string // one more header of the request
	}{
		{"GET", "Location", away, 302, away, ""},
		{"GET", "Location", away, 307, away, ""},
		{"POST", "Location", away, 303, away, ""},
		{"POST", "Location", away, 307, "", ""}, // with the prompt
		{"DELETE", "Location", away, 308, "", ""},
		{"DELETE", "Location", inside, 307, "/proxy/acme/v1/files/1", ""},
		{"POST", "Location", away, 201, away, ""},
		{"POST", "Location", inside, 201, "/proxy/acme/v1/files/1", ""},
		{"GET", "Location", away, 302, "", "X-Api-Key"},
		{"GET", "Location", away, 302, "", "Api-Key"},
		{"GET", "Location", inside, 302, "/proxy/acme/v1/files/1", "X-Goog-Api-Key"},
		{"GET", "Content-Location", away, 200, away, ""},
		{"POST", "Operation-Location", away, 202, "", ""},
		{"POST", "Operation-Location", inside, 202, "/proxy/acme/v1/files/1", ""},
		{"POST", "Azure-Asyncoperation", away, 202, "", ""},
		{"POST", "Azure-Asyncoperation", "/%2e%2e/%2e%2e/api/v1/pats/self", 202, "", ""},
		{"POST", "X-Location", inside, 200, "/proxy/acme/v1/files/1", ""},
		{"POST", "X-Goog-Upload-Url", away, 200, "", ""},
		{"GET", "X-Accel-Redirect", inside, 200, "", ""},
		{"GET", "X-Accel-Buffering", "no", 200, "", ""},
		{"GET", "X-Sendfile", "/etc/passwd", 200, "", ""},
		{"GET", "Refresh", "0; url=" + inside, 200, "", ""},
		{"GET", "Link", "<" + inside + "?page=2>; rel=\"next\"", 200, "</proxy/acme/v1/files/1?page=2>; rel=\"next\"", ""},
		{"GET", "Link", "<" + away + ">; rel=next", 200, "", ""},
		{"GET", "Link", "<" + away + ">; rel=\"a, <b>\", <" + inside + ">; rel=next, </%2e%2e/%2e%2e/api>; rel=x", 200, "</proxy/acme/v1/files/1>; rel=next", ""},
		{"GET", "Link", "<" + inside, 200, "", ""},
		{"GET", "Link", inside + ">; rel=next", 200, "", ""},
	} {
		header, location, status = c.header, c.location, c.status
		r := w.request(t.Context(), c.method, "/proxy/acme/v1/list", nil)
		if c.send != "" {
			r.Header.Set(c.send, "k")
		}
		res := w.do(r)
		assert.Equal(t, c.status, res.StatusCode)
		assert.Equal(t, c.want, res.Header.Get(c.header), "%s %s: %s", c.method, c.header, c.location)
	}
}

func TestSeveralLocationsAndLateOnes(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "twice") {
			w.Header()["Location"] = []string{"/v1/a", "/v1/b"}
			w.WriteHeader(http.StatusFound)
			return
		}
		w.Header().Set("Trailer", "Location, Operation-Location, Link, X-Checksum")
		_, _ = w.Write([]byte("x"))
		for _, name := range []string{"Location", "Operation-Location", "X-Checksum", http.TrailerPrefix + "X-Location"} {
			w.Header().Set(name, "/api/v1/pats/self")
		}
		w.Header().Set("Link", "</api/v1/pats/self>; rel=next")
	}})
	assert.Empty(t, w.get("/proxy/acme/v1/twice").Header["Location"])
	res := w.get("/proxy/acme/v1/late")
	assert.Equal(t, http.Header{"X-Checksum": {"/api/v1/pats/self"}}, res.Trailer)
}
