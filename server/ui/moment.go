package ui

import (
	"fmt"
	"time"
)

// Moment is a point in time as seen from the time of the page. Pages show it in
// UTC; a script puts it into the zone and language of the browser.
type Moment struct {
	at, now time.Time
}

// At returns the moment of t for a page that is shown at now.
func At(t, now time.Time) Moment { return Moment{at: t.UTC(), now: now.UTC()} }

func maybeAt(t *time.Time, now time.Time) *Moment {
	if t == nil {
		return nil
	}
	m := At(*t, now)
	return &m
}

// ISO is the machine-readable form, RFC 3339 with seconds.
func (m Moment) ISO() string { return m.at.Format(time.RFC3339) }

// UTC is the whole point in time in words.
func (m Moment) UTC() string { return m.at.Format("2 January 2006, 15:04 UTC") }

// Exact is the point in time to the second.
func (m Moment) Exact() string { return m.at.Format("2 Jan 2006, 15:04:05 UTC") }

// Date is the day.
func (m Moment) Date() string { return m.at.Format("2 Jan 2006") }

// Relative is the distance from now: "3 days ago", "in 2 hours".
func (m Moment) Relative() string {
	d := m.at.Sub(m.now)
	switch {
	case d > -time.Minute && d <= 0:
		return "just now"
	case d > 0 && d < time.Minute:
		return "in a moment"
	case d < 0:
		return span(-d) + " ago"
	default:
		return "in " + span(d)
	}
}

// span is a length of time, rounded to the largest unit that there are two of: a day and
// a half is 36 hours, and a token of 30 days that was just made ends in 30 days.
// patrol.js does the same.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range [...]struct {
		length time.Duration
		name   string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}} {
		if n := int(d.Round(u.length) / u.length); d >= 2*u.length-u.length/60 {
			return plural(n, u.name, u.name+"s")
		}
	}
	return plural(max(1, int(d.Round(time.Minute)/time.Minute)), "minute", "minutes")
}

// epoch stands in where a form is read for its fields alone.
var epoch = time.Unix(0, 0)

// lengthInWords is a configured duration for sentences.
func lengthInWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day && d%day == 0:
		return plural(int(d/day), "day", "days")
	case d >= time.Hour && d%time.Hour == 0:
		return plural(int(d/time.Hour), "hour", "hours")
	case d >= time.Minute && d%time.Minute == 0:
		return plural(int(d/time.Minute), "minute", "minutes")
	default:
		return fmt.Sprint(d)
	}
}
