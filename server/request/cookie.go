package request

import "strings"

// OwnCookie reports whether a cookie is one of Patrol's own, of whichever installation: the pages
// may share the host with what is protected, and upstreams have no use for them. A name that
// only browsers of an earlier version have is one, too.
func OwnCookie(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-")
	for _, kind := range []string{"patrol_session", "patrol_flow", "patrol_browser", "patrol_made"} {
		if rest, is := strings.CutPrefix(name, kind); is && (rest == "" || rest[0] == '_') {
			return true
		}
	}
	return false
}
