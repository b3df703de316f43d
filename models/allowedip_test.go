package models_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/models"
)

func TestParseAllowedIP(t *testing.T) {
	for given, want := range map[string]string{
		"203.0.113.7":               "203.0.113.7",
		"203.0.113.7/32":            "203.0.113.7/32",
		"203.0.113.0/24":            "203.0.113.0/24",
		"0.0.0.0/0":                 "0.0.0.0/0",
		"::/0":                      "::/0",
		"2001:DB8::1":               "2001:db8::1",
		"2001:db8:0:0::/32":         "2001:db8::/32",
		"::ffff:203.0.113.7":        "203.0.113.7",
		"::ffff:cb00:7107":          "203.0.113.7",
		"::ffff:203.0.113.0/120":    "203.0.113.0/24",
		"::ffff:0.0.0.0/96":         "0.0.0.0/0",
		"203.0.113.7/24":            "! write 203.0.113.0/24 for the range, or 203.0.113.7 for the address alone",
		"::ffff:203.0.113.7/120":    "! write 203.0.113.0/24",
		"2001:db8::1/32":            "! write 2001:db8::/32",
		"::ffff:0:0/90":             "! write ::ffc0:0:0/90",
		"fe80::1%eth0":              "! has a zone",
		"fe80::%eth0/64":            "! has a zone",
		"":                          "! is neither",
		" 203.0.113.7":              "! is neither",
		"203.0.113.07":              "! is neither",
		"203.0.113.7:80":            "! is neither",
		"[2001:db8::1]":             "! is neither",
		"203.0.113.0/33":            "! is neither",
		"203.0.113.0/024":           "! is neither",
		"203.0.113.0/255.0.0.0":     "! is neither",
		"203.0.113":                 "! is neither",
		"3405803783":                "! is neither",
		"203.0.113.0 - 203.0.113.9": "! is neither",
		"203.0.113.7,198.51.100.7":  "! is neither",
		"office.example.com":        "! is neither",
		"*":                         "! is neither",
	} {
		text, prefix, err := models.ParseAllowedIP(given)
		if message, wrong := strings.CutPrefix(want, "! "); wrong {
			assert.ErrorContains(t, err, message, given)
			continue
		}
		if assert.NoError(t, err, given) {
			assert.Equal(t, want, text, given)
			again, same, err := models.ParseAllowedIP(text)
			assert.NoError(t, err, given)
			assert.Equal(t, text, again)
			assert.Equal(t, prefix, same)
		}
	}
}

func TestValidateAllowedIPs(t *testing.T) {
	var v models.Invalid
	assert.Equal(t, []string{"203.0.113.7", "::/0"}, models.ValidateAllowedIPs("allowed_ips", []string{"::ffff:203.0.113.7", "::/0"}, 2, &v))
	assert.NoError(t, v.Err())
	models.ValidateAllowedIPs("allowed_ips", []string{"203.0.113.7", "x", "203.0.113.7/32", "::ffff:203.0.113.7"}, 4, &v)
	models.ValidateAllowedIPs("allowed_ips", []string{"203.0.113.7", "::1", "::2"}, 2, &v)
	err := v.Err()
	for _, want := range []string{"allowed_ips[1]: is neither", "allowed_ips[2]: is the same as allowed_ips[0]", "allowed_ips[3]: is the same as allowed_ips[0]", "3 addresses and ranges are more than the maximum of 2"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestAllowsFrom(t *testing.T) {
	for _, c := range []struct {
		allowed, from string
		want          bool
	}{
		{"", "203.0.113.7", true},
		{"", "", true},
		{"0.0.0.0/0 ::/0", "", false},
		{"0.0.0.0/0", "203.0.113.7", true},
		{"0.0.0.0/0", "::ffff:203.0.113.7", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "203.0.113.7", false},
		{"::/0", "::ffff:203.0.113.7", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"198.51.100.7 203.0.113.0/24", "203.0.113.255", true},
		{"198.51.100.7 203.0.113.0/24", "203.0.114.0", false},
		{"what is no address", "203.0.113.7", false},
	} {
		var addr netip.Addr
		if c.from != "" {
			addr = netip.MustParseAddr(c.from)
		}
		assert.Equal(t, c.want, models.PAT{AllowedIPs: strings.Fields(c.allowed)}.AllowsFrom(addr), "%s from %s", c.allowed, c.from)
	}
}

func TestWidensAllowedIPs(t *testing.T) {
	for _, c := range []struct {
		before, after string
		widens        bool
		common        string
	}{
		{"", "", false, ""},
		{"", "203.0.113.0/24", false, "203.0.113.0/24"},
		{"203.0.113.0/24", "", true, "203.0.113.0/24"},
		{"203.0.113.0/24", "203.0.113.0/24", false, "203.0.113.0/24"},
		{"203.0.113.0/24", "203.0.113.7 203.0.113.128/25", false, "203.0.113.7 203.0.113.128/25"},
		{"203.0.113.0/24", "203.0.112.0/23", true, "203.0.113.0/24"},
		{"203.0.113.0/24", "203.0.113.7 198.51.100.7", true, "203.0.113.7"},
		{"203.0.113.0/24 198.51.100.7", "198.51.100.7", false, "198.51.100.7"},
		{"203.0.113.7", "203.0.113.7/32", false, "203.0.113.7 203.0.113.7/32"},
		{"0.0.0.0/0", "::/0", true, ""},
		{"203.0.113.0/25 203.0.113.128/25", "203.0.113.0/24", true, "203.0.113.0/25 203.0.113.128/25"},
	} {
		before, after := strings.Fields(c.before), strings.Fields(c.after)
		assert.Equal(t, c.widens, models.WidensAllowedIPs(before, after), "%s to %s", c.before, c.after)
		assert.True(t, slices.Equal(strings.Fields(c.common), models.CommonAllowedIPs(before, after)), "%s and %s", c.before, c.after)
	}
}
