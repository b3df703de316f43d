package models

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a positive length of time in any of three notations:
//
//   - whole days or weeks, alone or before the hours: `30d`, `2w`, `1d12h`
//   - Go: `12h`, `90s`, `1h30m`
//   - ISO 8601 with fixed-length parts: `P30D`, `P2W`, `PT12H`, `P1DT30M`
//
// ISO years and months are refused since their length depends on the calendar.
// A day has 24 hours. The error is written for whoever typed the text.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" || len(text) > 64 {
		return 0, durationError("")
	}
	var d time.Duration
	var err error
	if text[0] == 'P' {
		d, err = parseISODuration(text[1:])
	} else {
		d, err = parsePlainDuration(text)
	}
	if err == nil && d <= 0 {
		return 0, durationError("it must be longer than zero")
	}
	return d, err
}

func durationError(why string) error {
	const forms = "must be a duration such as 30d, 12h, 90s or P30D"
	if why == "" {
		return errors.New(forms)
	}
	return errors.New(forms + ": " + why)
}

func parsePlainDuration(text string) (time.Duration, error) {
	var total time.Duration
	rest := text
	for _, unit := range [...]struct {
		letter string
		length time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		head, tail, ok := strings.Cut(rest, unit.letter)
		if !ok {
			continue
		}
		n, err := wholeNumber(head)
		if err != nil {
			return 0, err
		}
		if total, err = addDuration(total, n, unit.length); err != nil {
			return 0, err
		}
		rest = tail
	}
	if rest == "" {
		return total, nil
	}
	if c := rest[0]; c == '-' || c == '+' {
		return 0, durationError("it has no sign")
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, durationError("")
	}
	return addDuration(total, 1, d)
}

func parseISODuration(text string) (time.Duration, error) {
	var total time.Duration
	date, clock, hasClock := strings.Cut(text, "T")
	if date == "" && clock == "" || hasClock && clock == "" {
		return 0, durationError("")
	}
	for _, part := range [...]struct {
		text, letters string
		length        map[byte]time.Duration
	}{
		{date, "WD", map[byte]time.Duration{'W': 7 * day, 'D': day}},
		{clock, "HMS", map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}},
	} {
		rest, from := part.text, 0
		for rest != "" {
			i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
			if i <= 0 {
				return 0, durationError("")
			}
			if rest[i] == 'Y' || rest[i] == 'M' && part.letters == "WD" {
				return 0, durationError("years and months have no fixed length, use days")
			}
			at := strings.IndexByte(part.letters[from:], rest[i])
			if at < 0 {
				return 0, durationError("")
			}
			from += at + 1
			n, err := wholeNumber(rest[:i])
			if err != nil {
				return 0, err
			}
			if total, err = addDuration(total, n, part.length[rest[i]]); err != nil {
				return 0, err
			}
			rest = rest[i+1:]
		}
	}
	return total, nil
}

func wholeNumber(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, durationError("")
	}
	return int64(n), nil // bounded to 63 bits
}

func addDuration(total time.Duration, n int64, unit time.Duration) (time.Duration, error) {
	if unit > 0 && n > (math.MaxInt64-int64(total))/int64(unit) {
		return 0, durationError("it is too long")
	}
	return total + time.Duration(n)*unit, nil
}

// FormatDuration renders a length of time the way people write it: whole days
// as `30d`, else as Go does.
func FormatDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
