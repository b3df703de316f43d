package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"patrol/server/request"
	"patrol/server/route"
)

// referrer translates where an upstream's answer refers to, for a client that has
// this gateway in front of it and a token that an upstream must not have it use
// elsewhere: on Patrol's own routes, or in another domain.
//
// What comes out is either a path under prefix that [route.Parse] reads in one way,
// as it will when the client comes back with it; or an absolute URL of a host that is
// neither the upstream's nor this server's, spelled such that browsers (WHATWG URL),
// RFC 3986 readers and Go agree on the host. Everything else is dropped.
type referrer struct {
	base   *url.URL // of the upstream
	from   *url.URL // what was asked for there
	prefix string   // what stands for base here: /proxy/{domain}
	here   []string // names and addresses of this server, in lower case, without port
	// keyed says that the client presents its token in a header that programs send
	// along when they follow a redirect to another host.
	keyed  bool
	method string
}

func (x *exchange) referrer(t *target) referrer {
	_, host := x.public()
	f := referrer{base: t.base, from: t.url(x.judged), prefix: "/proxy/" + x.domain, method: x.r.Method}
	for _, name := range []string{host, x.r.Host} {
		f.here = append(f.here, hostOnly(name))
	}
	if addr, ok := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		f.here = append(f.here, hostOnly(addr.String()))
	}
	for _, name := range request.KeyHeaders {
		f.keyed = f.keyed || x.r.Header[name] != nil
	}
	return f
}

// hostOnly takes port and brackets off the host of a URL, and the dot at its end.
func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// refers reports whether a header, by its name in lower case, is one whose value
// clients take for where to go on: `Location`, and what SDKs follow with their token,
// such as Operation-Location, Azure-AsyncOperation or X-Goog-Upload-URL.
func refers(lower string) bool {
	for _, end := range []string{"location", "url", "uri", "asyncoperation", "redirect", "redirect-to", "next-page"} {
		if strings.HasSuffix(lower, end) {
			return true
		}
	}
	return false
}

// admit translates the references in the header of an answer.
func (f referrer) admit(res *http.Response) {
	for name, values := range res.Header {
		lower := strings.ToLower(strings.TrimPrefix(name, http.TrailerPrefix))
		switch {
		case lower != "link" && !refers(lower):
		case strings.HasPrefix(name, http.TrailerPrefix):
			delete(res.Header, name)
		case lower == "link":
			if links := f.links(values); len(links) > 0 {
				res.Header[name] = links
			} else {
				delete(res.Header, name)
			}
		default:
			to := ""
			if len(values) == 1 { // of several nobody knows which one counts
				to = f.translate(values[0], f.mayLeave(lower, res.StatusCode))
			}
			if to == "" {
				delete(res.Header, name)
			} else {
				res.Header[name] = []string{to}
			}
		}
	}
}

// cleanTrailer removes from a trailer what has no place in the header either, and all
// references: they came too late to be looked at.
func cleanTrailer(h http.Header) {
	cleanAnswerHeader(h)
	for name := range h {
		if lower := strings.ToLower(strings.TrimPrefix(name, http.TrailerPrefix)); lower == "link" || refers(lower) {
			delete(h, name)
		}
	}
}

// mayLeave reports whether a header may lead a client to another host. Programs that
// follow a Location there leave Authorization behind, as the Fetch standard has it,
// but nothing else: no other credential, and with 307 and 308 not the body either.
// What SDKs follow by themselves they follow with their token.
func (f referrer) mayLeave(lower string, status int) bool {
	switch lower {
	case "content-location":
		return true
	case "location":
		repeats := status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
		return !f.keyed && (!repeats || f.method == http.MethodGet || f.method == http.MethodHead)
	}
	return false
}

// translate returns where a reference leads seen from the client, or "" if it leads
// nowhere that a client should go. away says that another host is such a place.
func (f referrer) translate(reference string, away bool) string {
	// Browsers strip or rewrite what is no plain character; nothing of it needs to be
	// there.
	if strings.ContainsFunc(reference, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\\\"<>^`{|}", r) }) {
		return ""
	}
	ref, err := url.Parse(reference)
	switch {
	case err != nil || ref.User != nil || ref.Opaque != "":
		return ""
	case ref.Host == "" && (ref.Scheme != "" || strings.HasPrefix(reference, "//")):
		return "" // http:/x and ///x have a host to some readers
	}
	to := f.from.ResolveReference(ref)
	if to.Scheme != "http" && to.Scheme != "https" {
		return ""
	}
	if ref.Host == "" || sameServer(to, f.base) {
		return f.local(to)
	}
	host, ok := plainHost(to)
	if !ok || !away || f.isHere(host) || host == hostOnly(f.base.Hostname()) {
		return ""
	}
	return to.String()
}

// local returns the path here that stands for a URL of the upstream, "" if none does.
func (f referrer) local(to *url.URL) string {
	target := to.EscapedPath()
	if target == "" {
		target = "/"
	}
	if to.RawQuery != "" {
		target += "?" + to.RawQuery
	}
	there, err := route.Parse(http.MethodGet, target, nil)
	if err != nil {
		return ""
	}
	var base []string
	if path := f.base.EscapedPath(); path != "" {
		b, err := route.Parse(http.MethodGet, path, nil)
		if err != nil {
			return ""
		}
		base = b.Segments
	}
	if len(there.Segments) < len(base) || !slices.Equal(there.Segments[:len(base)], base) {
		return ""
	}
	local := f.prefix
	if len(there.Segments) > len(base) || strings.HasSuffix(there.Path, "/") {
		local += route.EscapedPath(there, len(base))
	}
	if query := route.EncodedQuery(there); query != "" {
		local += "?" + query
	}
	if fragment := to.EscapedFragment(); fragment != "" {
		local += "#" + fragment
	}
	return local
}

// sameServer reports whether two URLs have one host and port.
func sameServer(a, b *url.URL) bool {
	return hostOnly(a.Hostname()) == hostOnly(b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// plainHost returns the host of a URL if every reader takes it for the same one: a
// name of letters, digits and hyphens, or an address in its usual spelling. WHATWG's
// reader takes 0x7f.1 and 2130706433 for addresses, others for names.
func plainHost(u *url.URL) (host string, ok bool) {
	host = hostOnly(u.Hostname())
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != p {
			return "", false
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return "", false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return host, addr.Zone() == "" && (addr.Is4() || strings.HasPrefix(u.Host, "["))
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || strings.HasPrefix(label, "xn--") && len(label) == len("xn--") || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	last := labels[len(labels)-1]
	if digits := strings.Trim(last, "0123456789") == ""; digits || strings.HasPrefix(last, "0x") {
		return "", false
	}
	return host, true
}

// isHere reports whether a host is this server: by a name that it is known by, or one
// that stands for the machine itself, as it does for a client on the same one.
func (f referrer) isHere(host string) bool {
	if slices.Contains(f.here, host) || host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "localhost.localdomain" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsUnspecified() || slices.ContainsFunc(f.here, func(h string) bool {
		own, err := netip.ParseAddr(h)
		return err == nil && own.Unmap().WithZone("") == addr
	})
}

// links translates the values of Link (RFC 8288): of each, the links that lead to
// somewhere under prefix.
func (f referrer) links(values []string) (out []string) {
	for _, value := range values {
		var kept []string
		for value != "" {
			link, rest, ok := cutLink(value)
			if !ok {
				return nil // who knows what it is to others
			}
			value = rest
			to, params, _ := strings.Cut(link[1:], ">")
			if to = f.translate(to, false); to != "" {
				kept = append(kept, "<"+to+">"+params)
			}
		}
		if len(kept) > 0 {
			out = append(out, strings.Join(kept, ", "))
		}
	}
	return out
}

// cutLink cuts the first link off a list of them: `<reference>` and its parameters,
// up to a comma that is not inside quotes.
func cutLink(list string) (link, rest string, ok bool) {
	list = strings.TrimLeft(list, " \t,")
	if list == "" {
		return "", "", false
	}
	end := strings.IndexByte(list, '>')
	if list[0] != '<' || end < 0 {
		return "", "", false
	}
	quoted := false
	for i := end + 1; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '<' && !quoted, c < ' ' && c != '\t':
			return "", "", false
		case c == ',' && !quoted:
			return strings.TrimRight(list[:i], " \t"), strings.TrimLeft(list[i:], " \t,"), true
		}
	}
	return list, "", !quoted
}
