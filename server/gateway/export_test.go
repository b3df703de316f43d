package gateway

import "net/url"

// Translate returns, for a client here, the form of a reference that an upstream with the
// base URL gave to a request for from.
func Translate(reference, base, from, prefix, here string, away bool) string {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		return u
	}
	f := referrer{base: parse(base), from: parse(from), prefix: prefix, here: []string{hostOnly(here)}}
	return f.translate(reference, away)
}

// KeepEventsAlive gives tests the function that changes event streams.
var KeepEventsAlive = keepEventsAlive
