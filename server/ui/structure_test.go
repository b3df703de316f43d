package ui

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/models"
	"patrol/server/request"
)

func rendered(t *testing.T, u *UI, s sample) *html.Node {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, u.Render(&out, s.frame, s.page))
	doc, err := html.Parse(&out)
	require.NoError(t, err)
	return doc
}

func elements(doc *html.Node, names ...string) []*html.Node {
	var out []*html.Node
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && (len(names) == 0 || slices.Contains(names, n.Data)) {
			out = append(out, n)
		}
	}
	return out
}

func attribute(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

// What holds for every page: what assistive technology and a strict policy need.
func TestEveryPageIsSound(t *testing.T) {
	u, err := New()
	require.NoError(t, err)
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			doc := rendered(t, u, s)
			ids := map[string]int{}
			for _, n := range elements(doc) {
				if id, ok := attribute(n, "id"); ok {
					ids[id]++
					assert.Equal(t, 1, ids[id], "the id %s is there again", id)
				}
				for _, a := range n.Attr {
					assert.NotEqual(t, "style", a.Key)
					assert.False(t, strings.HasPrefix(a.Key, "on"), "inline code: %s", a.Key)
				}
			}
			assert.Len(t, elements(doc, "h1"), 1)
			assert.Len(t, elements(doc, "main"), 1)
			assert.Len(t, elements(doc, "title"), 1)
			for _, script := range elements(doc, "script") {
				src, external := attribute(script, "src")
				kind, _ := attribute(script, "type")
				assert.True(t, external && strings.HasPrefix(src, AssetPath) || kind == "application/json", "inline code")
			}
			for _, n := range elements(doc) {
				for _, key := range []string{"aria-describedby", "aria-labelledby", "for"} {
					value, _ := attribute(n, key)
					for id := range strings.FieldsSeq(value) {
						assert.Contains(t, ids, id, "%s of %s", key, n.Data)
					}
				}
				if href, ok := attribute(n, "href"); ok && strings.HasPrefix(href, "#") {
					assert.Contains(t, ids, href[1:], "a link within the page")
				}
			}
			for _, form := range elements(doc, "form") {
				method, _ := attribute(form, "method")
				action, _ := attribute(form, "action")
				assert.Contains(t, []string{"get", "post"}, method)
				assert.True(t, strings.HasPrefix(action, "/"), "a form that names where it goes")
			}
			labelled := map[string]bool{}
			for _, label := range elements(doc, "label") {
				id, _ := attribute(label, "for")
				labelled[id] = true
				for _, inner := range elements(label, "input", "select") {
					own, _ := attribute(inner, "name")
					labelled["name:"+own] = true
				}
			}
			for _, n := range elements(doc, "input", "select", "textarea") {
				kind, _ := attribute(n, "type")
				id, _ := attribute(n, "id")
				own, _ := attribute(n, "name")
				_, aria := attribute(n, "aria-label")
				assert.True(t, kind == "hidden" || aria || labelled[id] || labelled["name:"+own], "%s has no label", own)
				if invalid, _ := attribute(n, "aria-invalid"); invalid == "true" && id != "expires-on" {
					described, _ := attribute(n, "aria-describedby")
					assert.NotEmpty(t, described, "%s is wrong, and does not say why", own)
				}
			}
		})
	}
}

// Every link of every page leads to a page that the server has. The server's own
// test walks the other way.
func TestLinksLeadToPages(t *testing.T) {
	u, err := New()
	require.NoError(t, err)
	prefixes := []string{"/profile/", "/help", "/admin/", "/policy", "/login", "/logout", "/setup", ResetPath, AssetPath}
	for name, s := range samples() {
		doc := rendered(t, u, s)
		for _, n := range elements(doc, "a", "form", "link") {
			for _, key := range []string{"href", "action"} {
				target, ok := attribute(n, key)
				if !ok || target == "/" || strings.HasPrefix(target, "#") || strings.HasPrefix(target, "?") {
					continue
				}
				assert.True(t, slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(target, p) }), "%s: %s", name, target)
			}
		}
	}
}

func TestDurationsKeepToTheMaximum(t *testing.T) {
	values := func(limit time.Duration) []string {
		var out []string
		for _, o := range decodeLife(nil, sampleNow, limit).Options() {
			value := o.Value
			if o.Selected {
				value += "*"
			}
			out = append(out, value)
		}
		return out
	}
	const day = 24 * time.Hour
	assert.Equal(t, []string{"24h", "7d", "30d*", "60d", "90d", "365d", "custom"}, values(366*day))
	assert.Equal(t, []string{"24h", "7d*", "custom"}, values(29*day))
	assert.Equal(t, []string{"1h*", "custom"}, values(time.Hour))

	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	l := decodeLife(url.Values{"expires_on": {"2026-01-08"}}, now, 8*day)
	assert.Equal(t, "2026-01-08", l.MaxDate(), "the last day whose end is within the maximum")
	assert.Equal(t, "8 January 2026, 23:59 UTC", l.Expiry().UTC())
	l = decodeLife(url.Values{"expires_on": {"2026-01-09"}}, now, 8*day)
	assert.Nil(t, l.Expiry(), "too far away")
	l = decodeLife(url.Values{"expires_in": {"custom"}, "expires_on": {"tomorrow"}}, now, 8*day)
	assert.Nil(t, l.Expiry())
}

func TestLocalPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"/": true, "/profile/pats?x=1": true, "": false, "//evil.example/": false, "https://evil.example": false,
		`/\evil.example`: false, "/\n/evil.example": false, "evil": false, "javascript:alert(1)": false,
	} {
		assert.Equal(t, ok, request.LocalPath(path) != "", path)
	}
}

func TestOnceMakesOneThing(t *testing.T) {
	o := NewOnce(2)
	key := o.Key()
	made := 0
	work := func() (string, error) {
		made++
		return "id", nil
	}
	for i := range 3 {
		id, first, err := o.Do("ann", key, work)
		require.NoError(t, err)
		assert.Equal(t, "id", id)
		assert.Equal(t, i == 0, first)
	}
	_, first, err := o.Do("eve", key, work)
	require.NoError(t, err)
	assert.True(t, first, "keys are each user's own")
	assert.Equal(t, 2, made)

	for range 2 {
		_, first, err = o.Do("ann", "", work)
		require.NoError(t, err)
		assert.True(t, first, "a form without a key is not the same as another")
	}

	_, _, err = o.Do("ann", "fails", func() (string, error) { return "", models.NewError(models.CodeTaken, "x") })
	require.Error(t, err)
	_, first, err = o.Do("ann", "fails", work)
	require.NoError(t, err)
	assert.True(t, first, "what failed can be sent again")

	// Many at a time wait for the one that works.
	started, release := make(chan struct{}), make(chan struct{})
	results := make(chan bool, 9)
	go func() {
		_, first, _ := o.Do("ann", "slow", func() (string, error) {
			close(started)
			<-release
			return "id", nil
		})
		results <- first
	}()
	<-started
	for range 8 {
		go func() {
			_, first, _ := o.Do("ann", "slow", func() (string, error) { return "another", nil })
			results <- first
		}()
	}
	close(release)
	firsts := 0
	for range 9 {
		if <-results {
			firsts++
		}
	}
	assert.Equal(t, 1, firsts)
}

func TestAssetsAreKeptForGood(t *testing.T) {
	u, err := New()
	require.NoError(t, err)
	for file, target := range u.assets.urls {
		for _, encoding := range []string{"", "gzip, deflate, br"} {
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.Header.Set("Accept-Encoding", encoding)
			w := httptest.NewRecorder()
			require.True(t, u.ServeAsset(w, r, strings.TrimPrefix(target, AssetPath)), file)
			assert.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
			assert.Equal(t, encoding != "", w.Header().Get("Content-Encoding") == "gzip")
		}
	}
	assert.False(t, u.ServeAsset(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), "patrol.css"))
}

func BenchmarkList(b *testing.B) {
	u, err := New()
	require.NoError(b, err)
	s := samples()["list-long"]
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	for b.Loop() {
		require.NoError(b, u.Write(httptest.NewRecorder(), r, http.StatusOK, s.frame, s.page))
	}
}

// What a user sends must not become the name of a property, such as __proto__.
func TestScriptsAssignToNoComputedName(t *testing.T) {
	computed := regexp.MustCompile(`[\w.)\]]\[[^\]]+\]\s*=[^=]`)
	scripts, err := filepath.Glob("assets/*.js")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotRegexp(t, computed, string(text), file)
		assert.NotContains(t, string(text), "Object.assign", file)
		assert.NotContains(t, string(text), "__proto__", file)
	}
}
