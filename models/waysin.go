package models

import (
	"strconv"
	"strings"
)

// Removal says what a reset of a password removes besides: what somebody may have brought in
// who knew the password.
type Removal struct {
	Identities bool // who the user is at identity providers; ends the sessions as well
	Sessions   bool
	Codes      bool // codes that sign a program in, and what the user made for others
	Tokens     bool
}

// WaysIn counts what works without the password of an account.
type WaysIn struct {
	Identities int `json:"identities"`
	Sessions   int `json:"sessions"`
	Codes      int `json:"codes"`
	Tokens     int `json:"tokens"`
}

// Less subtracts other from w.
func (w WaysIn) Less(other WaysIn) WaysIn {
	return WaysIn{w.Identities - other.Identities, w.Sessions - other.Sessions, w.Codes - other.Codes, w.Tokens - other.Tokens}
}

// String puts the counts into words.
func (w WaysIn) String() string {
	var parts []string
	for _, p := range []struct {
		n         int
		one, many string
	}{{w.Identities, "identity", "identities"}, {w.Sessions, "session", "sessions"}, {w.Codes, "code", "codes"}, {w.Tokens, "token", "tokens"}} {
		switch p.n {
		case 0:
		case 1:
			parts = append(parts, "1 "+p.one)
		default:
			parts = append(parts, strconv.Itoa(p.n)+" "+p.many)
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
