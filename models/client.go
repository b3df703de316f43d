package models

import "net/netip"

// Client is the sender of a request, as far as it is known.
type Client struct {
	IP        netip.Addr // IPv4 as such, and without a zone; invalid if unknown
	UserAgent string     // without anything secret; "" if unknown
}

// MaxUserAgent bounds a [Client.UserAgent], in bytes.
const MaxUserAgent = 1024

// ProxiedFacts is a proxied request as the policy of decisions sees it.
type ProxiedFacts struct {
	Method  string
	Path    string            // decoded once, cleaned, starting with /
	Headers map[string]string // those that a setting lists, names in lower case
}
