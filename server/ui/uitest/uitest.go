// Package uitest drives a real browser in tests of the pages.
//
// The browser is Chromium, found in PATH or named by PATROL_TEST_CHROMIUM. It
// runs headless, with a profile of its own that is thrown away. Without one,
// tests are skipped as [testenv.Missing] does.
package uitest

import (
	"context"
	_ "embed" // what measures pages
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"patrol/internal/testenv"
)

// Options choose how a page is looked at.
type Options struct {
	Width, Height int64
	Dark          bool
	NoScript      bool // JavaScript is off
	Zone          string
}

var executable = sync.OnceValue(func() string {
	if path := os.Getenv("PATROL_TEST_CHROMIUM"); path != "" { //nolint:forbidigo // tests have no other settings
		return path
	}
	for _, name := range [...]string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
})

// Start starts a browser and returns a context whose tabs are opened by [Tab].
// It ends with the test.
func Start(t testing.TB) context.Context {
	t.Helper()
	path := executable()
	if path == "" {
		testenv.Missing(t, "chromium", "neither PATROL_TEST_CHROMIUM nor a chromium in PATH")
	}
	ctx, cancel := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // the tests' own pages; CI runs as root, where the sandbox cannot start
		chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("lang", "en-GB"),
		chromedp.WSURLReadTimeout(time.Minute),
	))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// Tab opens a tab with cookies and storage of its own.
func Tab(t testing.TB, browser context.Context, o Options) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, Look(o)); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	ctx, stop := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// SameProfile opens another tab that shares cookies and storage with the first.
func SameProfile(t testing.TB, first context.Context) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(first)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, Look(Options{})); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return ctx
}

// AllowClipboard lets the pages of an origin use the clipboard, as a user would
// who is asked, and gives the tab the focus that this takes.
func AllowClipboard(ctx context.Context, origin string) error {
	return chromedp.Do(ctx, command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			c := chromedp.FromContext(ctx)
			for _, name := range [...]string{"clipboard-read", "clipboard-write"} {
				_, err := cdp.Call(ctx, c.Browser, browser.SetPermission, browser.SetPermissionParams{
					Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted,
					Origin: origin, BrowserContextID: c.BrowserContextID,
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
}

// Look sets how pages are shown from now on.
func Look(o Options) chromedp.Action[chromedp.Void] {
	if o.Width == 0 {
		o.Width, o.Height = 1280, 900
	}
	scheme := "light"
	if o.Dark {
		scheme = "dark"
	}
	if o.Zone == "" {
		o.Zone = "Europe/Berlin"
	}
	return chromedp.Steps(
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: o.Width, Height: o.Height, DeviceScaleFactor: 1}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}),
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: o.NoScript}),
		command(emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: o.Zone}),
		command(emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en_GB"}),
	)
}

// command makes an action of a protocol command whose answer says nothing.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// Unbound has a tab run scripts that the content policy of its pages does not name.
func Unbound() chromedp.Action[chromedp.Void] {
	return chromedp.Steps(command(page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}))
}

// Picture writes a PNG of the whole page.
func Picture(ctx context.Context, file string) error {
	var png []byte
	whole := true
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		shot, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &whole})
		png = shot.Data
		return err
	}))
	if err != nil {
		return fmt.Errorf("take a picture: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o600)
}

// Overflow returns how many pixels of the page are reached only by scrolling
// sideways.
func Overflow(ctx context.Context) (int64, error) {
	return chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (int64, error) {
		m, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
		if err != nil {
			return 0, err
		}
		return max(0, int64(m.CSSContentSize.Width)-m.CSSLayoutViewport.ClientWidth), nil
	})
}

//go:embed measure.js
var measuring string

// Measure returns what is wrong with the layout of the page as it is shown: words that
// are broken, things that lie on each other, and what is wider than its place.
func Measure(ctx context.Context) ([]string, error) {
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](measuring))
	if err != nil {
		return nil, fmt.Errorf("measure the page: %w", err)
	}
	var found []string
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, err
	}
	return found, nil
}

// Console returns a function that hands over what scripts have thrown and the browser has
// complained of since it was last called. What the network says of a status is no complaint.
func Console(t testing.TB, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var found []string
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Source == "network" || !m.IsException() && m.Type != chromedp.ConsoleError {
				continue
			}
			mu.Lock()
			found = append(found, m.String())
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := found
		found = nil
		return out
	}
}

// axeVersion is the version of axe-core that the pages are checked with.
const axeVersion = "4.14.1"

var axeSource = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("PATROL_TEST_AXE"); file != "" { //nolint:forbidigo // tests have no other settings
		source, err := os.ReadFile(file) //nolint:gosec // the caller's environment names the file
		return string(source), err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "patrol-test", "axe-core-"+axeVersion)
	file := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		install := exec.Command("npm", "install", "--prefix", dir, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "axe-core@"+axeVersion) //nolint:gosec // the arguments are constants and the cache folder
		if out, err := install.CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm install axe-core: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	source, err := os.ReadFile(file) //nolint:gosec // the path is made of the cache folder and constants
	return string(source), err
})

// Axe returns the source of axe-core, from the file that PATROL_TEST_AXE names,
// or installed once by npm into the user's cache.
func Axe(t testing.TB) string {
	t.Helper()
	source, err := axeSource()
	if err != nil {
		testenv.Missing(t, "axe", err.Error())
	}
	return source
}

// Violations returns what axe-core finds wrong with the page: the rules of WCAG
// 2.2 A and AA and axe's best practices.
func Violations(ctx context.Context, axe string) ([]string, error) {
	const run = `axe.run(document, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
		.then(r => JSON.stringify(r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary))))`
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[int](axe+";0")); err != nil {
		return nil, fmt.Errorf("load axe: %w", err)
	}
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, fmt.Errorf("run axe: %w", err)
	}
	var found []string
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, err
	}
	return found, nil
}
