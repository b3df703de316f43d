package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// cookies names and makes the cookies of this installation. Browsers tell cookies apart by
// host and name, not by port: two installations on one host must not read, or end, each
// other's sessions. So each name ends with what no other database has, and all servers on one
// database share. See docs/decisions/0035-cookies-of-an-installation.md.
type cookies struct {
	secure bool   // they travel over https only
	tag    string // of the installation
	now    func() time.Time
}

func newCookies(installation string, secure bool, now func() time.Time) cookies {
	sum := sha256.Sum256([]byte("cookies of " + installation))
	return cookies{secure: secure, tag: hex.EncodeToString(sum[:4]), now: now}
}

// name is that of a cookie for all pages. Browsers accept the prefix only with Secure, Path=/
// and no Domain, so that no neighbour host and no answer over plain HTTP can plant the cookie.
func (c cookies) name(kind string) string {
	name := "patrol_" + kind + "_" + c.tag
	if c.secure {
		return "__Host-" + name
	}
	return name
}

// pathName is that of a cookie for some pages.
func (c cookies) pathName(kind string) string {
	name := "patrol_" + kind + "_" + c.tag
	if c.secure {
		return "__Secure-" + name
	}
	return name
}

// value is the value of the cookie with a name, "" if there is none.
func (c cookies) value(r *http.Request, name string) string {
	if cookie, err := r.Cookie(name); err == nil {
		return cookie.Value
	}
	return ""
}

// set hands a browser a cookie for the pages at path, for so long; "" takes it away.
func (c cookies) set(w http.ResponseWriter, name, value, path string, site http.SameSite, lasts time.Duration) {
	cookie := &http.Cookie{ //nolint:gosec // over plain HTTP a browser would not keep a Secure cookie
		Name: name, Value: value, Path: path, HttpOnly: true, Secure: c.secure, SameSite: site, MaxAge: int(lasts / time.Second),
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// under returns the cookies of a request whose names begin so.
func (c cookies) under(r *http.Request, prefix string) (found []*http.Cookie) {
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, prefix) {
			found = append(found, cookie)
		}
	}
	return found
}
