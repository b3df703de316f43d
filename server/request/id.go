package request

// ValidID reports whether a client's X-Request-Id is taken over: 8 to 64 letters,
// digits and hyphens, which fits UUIDs and the ids of proxies, and no token, since
// those have underscores.
func ValidID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
