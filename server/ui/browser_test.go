package ui

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/ui/uitest"
)

// gallery serves the sample pages by name.
func gallery(t *testing.T) *httptest.Server {
	t.Helper()
	u, err := New()
	require.NoError(t, err)
	all := samples()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		if s, ok := all[name]; ok {
			assert.NoError(t, u.Write(w, r, http.StatusOK, s.frame, s.page))
			return
		}
		if !u.ServeAsset(w, r, name) {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// Every page is free of violations in both schemes, wide and narrow, and never
// wider than the window.
func TestPagesInABrowser(t *testing.T) {
	axe := uitest.Axe(t)
	browser := uitest.Start(t)
	server := gallery(t)
	for _, look := range []struct {
		name string
		uitest.Options
	}{
		{"light", uitest.Options{}},
		{"dark", uitest.Options{Dark: true}},
		{"narrow", uitest.Options{Width: 360, Height: 780}},
		{"narrow-dark-no-script", uitest.Options{Width: 360, Height: 780, Dark: true, NoScript: true}},
	} {
		tab := uitest.Tab(t, browser, look.Options)
		for name := range samples() {
			t.Run(look.name+"/"+name, func(t *testing.T) {
				require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/"+name)))
				overflow, err := uitest.Overflow(tab)
				require.NoError(t, err)
				assert.Zero(t, overflow, "pixels beyond the window")
				if !look.NoScript { // axe is a script
					found, err := uitest.Violations(tab, axe)
					require.NoError(t, err)
					assert.Empty(t, found)
				}
				if dir := os.Getenv("PATROL_PICTURES"); dir != "" {
					require.NoError(t, uitest.Picture(tab, filepath.Join(dir, name+"-"+look.name+".png")))
				}
			})
		}
	}
}
