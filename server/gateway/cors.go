package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patrol/server/request"
	"patrol/server/route"
)

// AnyOrigin lets the scripts of every web origin read answers. They need a token all the same:
// browsers add none by themselves.
const AnyOrigin = "*"

// cors answers the questions of browsers whether a script of one origin may use another (the
// Fetch standard, "CORS protocol"). Credentials of browsers are never allowed: nothing below
// /proxy/ looks at cookies.
type cors struct {
	any     bool
	origins map[string]bool
	age     string // seconds
}

func newCORS(cfg Config) cors {
	c := cors{origins: map[string]bool{}, age: strconv.Itoa(int(cfg.PreflightAge / time.Second))}
	for _, origin := range cfg.Origins {
		c.any = c.any || origin == AnyOrigin
		c.origins[origin] = true
	}
	return c
}

// exposed are the headers that scripts may read, besides those that all may.
var exposed = strings.Join([]string{
	"X-Request-Id", "Retry-After", "Mcp-Session-Id", "WWW-Authenticate", request.HeaderDecision, request.HeaderTokenExpires,
}, ", ")

// admit says on h, the header of the answer to r, whether the origin of the script that asks may
// read it, and reports whether r asks for that alone, before the script's own request is sent.
func (c cors) admit(h http.Header, r *http.Request) (preflight bool) {
	if len(c.origins) == 0 {
		return false
	}
	h.Add("Vary", "Origin")
	origin, ok := one(r.Header, "Origin")
	if !ok || !c.any && !c.origins[origin] {
		return false
	}
	if c.any {
		origin = AnyOrigin
	}
	h.Set("Access-Control-Allow-Origin", origin)
	method, ok := one(r.Header, "Access-Control-Request-Method")
	if r.Method != http.MethodOptions || !ok || !isMethod(method) {
		h.Set("Access-Control-Expose-Headers", exposed)
		return false
	}
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", method)
	if names := requestedNames(r.Header); names != "" {
		h.Set("Access-Control-Allow-Headers", names)
	}
	h.Set("Access-Control-Max-Age", c.age)
	return true
}

// preflight answers a browser that asks whether it may send a request. No token is asked for:
// the browser shows none before it may.
func (x *exchange) preflight() {
	protect(x.w.Header())
	x.tell(x.w.Header(), func() { x.w.WriteHeader(http.StatusNoContent) })
}

// requestedNames returns the names of the headers that a script will send, without those that
// some servers read as another name.
func requestedNames(h http.Header) string {
	var names []string
	for _, line := range h["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.Trim(name, " \t")); route.IsPlainName(name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

func isMethod(text string) bool {
	return text != "" && len(text) <= 32 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == ""
}

// one returns the value of a header that is there once.
func one(h http.Header, name string) (string, bool) {
	if values := h[name]; len(values) == 1 {
		return values[0], true
	}
	return "", false
}

// CheckOrigin returns the problem of a configured origin, "" if it has none. It must be spelled as
// browsers send it (RFC 6454 §6.2): they are compared byte for byte.
func CheckOrigin(text string) (problem string) {
	if text == AnyOrigin {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != text || strings.ToLower(text) != text {
		return "must be an origin as browsers send it, such as https://chat.example.com, in lower case and without a path, or *"
	}
	if u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] && u.Port() != "" || strings.HasSuffix(u.Host, ":") {
		return "must leave out the port that its scheme has anyway, as browsers do"
	}
	if slices.ContainsFunc([]byte(u.Host), func(b byte) bool { return b >= 0x80 || b == '*' || b == '@' }) {
		return "must name one host in ASCII, such as xn--bcher-kva.example"
	}
	return ""
}
