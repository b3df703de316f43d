package request

import (
	"net/url"
	"strings"
)

// LocalPath returns path if it is one of this site's pages, else "": nobody is
// led elsewhere by a link to the sign-in.
func LocalPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return ""
	}
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return ""
	}
	return path
}

// EmailPath is the address of the page that takes the code for another email address.
const EmailPath = "/profile/email"

// ResetPath is the address of the page that takes the code of a password reset.
const ResetPath = "/reset"
