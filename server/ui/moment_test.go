package ui

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/ui/uitest"
)

const day = 24 * time.Hour

// distances are distances in time, in words.
var distances = []struct {
	from time.Duration
	says string
}{
	{30*day - time.Second, "in 30 days"}, // a token that was just made
	{7*day - time.Minute, "in 7 days"},
	{24*time.Hour - time.Second, "in 24 hours"},
	{time.Hour - time.Second, "in 60 minutes"},
	{90*day - time.Second, "in 3 months"},
	{365*day - time.Second, "in 12 months"},
	{366*day - time.Second, "in 12 months"},
	{730*day - time.Second, "in 2 years"},
	{60*day - time.Second, "in 2 months"},
	{48*time.Hour - time.Second, "in 2 days"},
	{36 * time.Hour, "in 36 hours"},
	{90*time.Minute + 5*time.Second, "in 90 minutes"},
	{-90*time.Minute - 5*time.Second, "90 minutes ago"},
	{-4*time.Minute - 5*time.Second, "4 minutes ago"},
	{-61 * time.Second, "1 minute ago"},
	{-20 * time.Hour, "20 hours ago"},
	{-3*day - time.Hour, "3 days ago"},
	{-29*day - 13*time.Hour, "30 days ago"},
	{-800 * day, "2 years ago"},
}

func TestDistancesAreRounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, d := range distances {
		assert.Equal(t, d.says, At(now.Add(d.from), now).Relative(), "%s", d.from)
	}
	assert.Equal(t, "just now", At(now.Add(-59*time.Second), now).Relative())
	assert.Equal(t, "in a moment", At(now.Add(59*time.Second), now).Relative())
}

// The browser says the same.
func TestDistancesInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	server := gallery(t)
	tab := uitest.Tab(t, browser, uitest.Options{})
	require.NoError(t, chromedp.Do(tab, uitest.Unbound(), chromedp.Navigate(server.URL+"/list")))
	for _, d := range distances {
		got, err := chromedp.Run(tab, chromedp.Evaluate[string](fmt.Sprintf(`(async () => {
			const time = document.createElement("time");
			time.dateTime = new Date(Date.now() + %d).toISOString();
			time.append(Object.assign(document.createElement("span")));
			time.firstChild.dataset.relative = "";
			document.querySelector("main").replaceChildren(time);
			await import(document.querySelector("script[src*=patrol]").src + "?" + Math.random());
			return time.textContent;
		})()`, d.from.Milliseconds()), chromedp.EvalAwaitPromise))
		require.NoError(t, err)
		assert.Equal(t, d.says, got, "%s", d.from)
	}
}
