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
		{"dark-narrow", uitest.Options{Width: 360, Height: 780, Dark: true}},
		{"no-script-narrow", uitest.Options{Width: 360, Height: 780, NoScript: true}},
	} {
		tab := uitest.Tab(t, browser, look.Options)
		for name := range samples() {
			t.Run(look.name+"/"+name, func(t *testing.T) {
				require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/"+name)))
				overflow, err := uitest.Overflow(tab)
				require.NoError(t, err)
				assert.Zero(t, overflow, "pixels beyond the window")
				if look.NoScript { // axe is a script
					return
				}
				found, err := uitest.Violations(tab, axe)
				require.NoError(t, err)
				assert.Empty(t, found)
			})
		}
	}
}

// Nothing moves on the page once it is shown.
func TestTheListDoesNotShift(t *testing.T) {
	browser := uitest.Start(t)
	server := gallery(t)
	for _, width := range []int64{1280, 360} {
		tab := uitest.Tab(t, browser, uitest.Options{Width: width, Height: 800, Zone: "Asia/Kolkata"})
		require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/list-long")))
		shift, err := chromedp.Run(tab, chromedp.Evaluate[float64](`new Promise(done => {
			let sum = 0;
			const observer = new PerformanceObserver(list => { for (const e of list.getEntries()) sum += e.value });
			observer.observe({type: "layout-shift", buffered: true});
			requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum), 100)));
		})`, chromedp.EvalAwaitPromise))
		require.NoError(t, err)
		assert.Zero(t, shift, "at %d pixels", width)
	}
}

// TestScreenshots writes pictures of every page in both schemes to the folder
// that PATROL_SCREENSHOTS names. `make screenshots` runs it.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("PATROL_SCREENSHOTS")
	if dir == "" {
		return
	}
	browser := uitest.Start(t)
	server := gallery(t)
	for scheme, dark := range map[string]bool{"light": false, "dark": true} {
		tab := uitest.Tab(t, browser, uitest.Options{Dark: dark, Width: 1200, Height: 800})
		for name := range samples() {
			require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/"+name)))
			require.NoError(t, uitest.Picture(tab, filepath.Join(dir, name+"-"+scheme+".png")))
		}
	}
}
