package route

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"patrol/models"
)

// ErrAmbiguous is in the chain of every error that says that a request can be
// read in more than one way, or not at all. The rest of the text names what was
// found, in plain words and without quoting the request; [Reason] is what clients
// are told of it.
var ErrAmbiguous = errors.New("the request is ambiguous")

// coded is an ErrAmbiguous with the code of the reason that it is.
type coded struct {
	error
	code models.ReasonCode
}

func (c coded) Unwrap() error { return c.error }

// withCode gives err a code, unless it has one or is no [ErrAmbiguous].
func withCode(code models.ReasonCode, err error) error {
	if _, has := errors.AsType[coded](err); has || !errors.Is(err, ErrAmbiguous) {
		return err
	}
	return coded{err, code}
}

// maxReason bounds the part of a reason that comes from an error, in bytes.
const maxReason = 300

// Reason returns what a client is told about err: `route_unmapped`, or for an error
// of [ReadModel] what is wrong with the body, in words that hold nothing secret.
func Reason(err error) models.Reason {
	r := models.Because(models.RouteUnmapped)
	if c, ok := errors.AsType[coded](err); ok {
		r = models.Because(c.code)
	}
	if err == nil || !errors.Is(err, ErrAmbiguous) {
		return r
	}
	found := models.MaskTokens(strings.TrimPrefix(err.Error(), ErrAmbiguous.Error()+": "))
	if len(found) > maxReason {
		found = strings.ToValidUTF8(found[:maxReason], "") + "…"
	}
	r.Message = "This request is not judged: " + found + "."
	return r
}

// maxTarget is the longest request target that is read, in bytes.
const maxTarget = 16 << 10

func ambiguous(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrAmbiguous}, args...)...)
}

// Parse returns the canonical form of a request from what the wire said: its
// method, its request target as it was sent (net/http's RequestURI, not its URL),
// and its header, which must not change while the form is used. Header names may
// be in any case. The body is not looked at. An
// error wraps [ErrAmbiguous].
func Parse(method, target string, header http.Header) (models.HTTPRequest, error) {
	r, err := ParseToForward(method, target, header)
	if err == nil && r.Escaped > 0 {
		return models.HTTPRequest{}, errSlash
	}
	return r, err
}

// ParseToForward is [Parse] for a caller that forwards the request in its canonical form, in
// which every slash is plain. A slash that came encoded parts two segments like any other, and
// the form says where the first of them is: names of models have slashes, and clients encode
// them.
func ParseToForward(method, target string, header http.Header) (models.HTTPRequest, error) {
	var none models.HTTPRequest
	if err := checkMethod(method); err != nil {
		return none, err
	}
	rawPath, rawQuery, err := splitTarget(target)
	if err != nil {
		return none, err
	}
	segments, escaped, err := parsePath(rawPath)
	if err != nil {
		return none, err
	}
	query, err := parseQuery(rawQuery)
	if err != nil {
		return none, err
	}
	if err := checkOverride(header); err != nil {
		return none, err
	}
	path := "/" + strings.Join(segments, "/")
	if len(segments) > 0 && strings.HasSuffix(rawPath, "/") {
		path += "/"
	}
	return models.HTTPRequest{
		Method: method, Path: path, Segments: segments, Escaped: escaped, Query: query,
		Headers: func() map[string]string { return judgedHeaders(header) }, HeaderNames: maps.Keys(header),
	}, nil
}

// checkMethod accepts what registered methods look like (RFC 9110 §16.1.1: they
// are in capitals). A method in lower case means nothing to one upstream and GET
// to another. CONNECT asks for a tunnel, and TRACE for an echo of the credentials
// that a proxy adds.
func checkMethod(method string) error {
	if method == "" || len(method) > 32 || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return ambiguous("the method is not a word in capital letters")
	}
	switch method {
	case http.MethodConnect, http.MethodTrace, "TRACK":
		return ambiguous("the method %s is not proxied", method)
	}
	return nil
}

// splitTarget cuts a target in origin form (RFC 9112 §3.2.1) at its question
// mark and refuses every other form.
func splitTarget(target string) (path, query string, err error) {
	switch {
	case len(target) > maxTarget:
		return "", "", ambiguous("the request target is longer than %d bytes", maxTarget)
	case !strings.HasPrefix(target, "/"):
		return "", "", ambiguous("the request target is not a path")
	}
	for i := range len(target) {
		switch c := target[i]; {
		case c <= ' ' || c >= 0x7f:
			return "", "", ambiguous("the request target has a character that must be percent-encoded")
		case c == '#':
			return "", "", ambiguous("the request target has a fragment")
		}
	}
	path, query, _ = strings.Cut(target, "?")
	return path, query, nil
}

// parsePath returns the decoded segments of a path that starts with a slash, and the number,
// counted from 1, of the first that an encoded slash joins to the next. One trailing slash makes
// no segment.
func parsePath(raw string) (segments []string, escaped int, err error) {
	raw = strings.TrimSuffix(raw[1:], "/")
	if raw == "" {
		return []string{}, 0, nil
	}
	segments = make([]string, 0, strings.Count(raw, "/")+1)
	for rest := range strings.SplitSeq(raw, "/") {
		joined, err := decode(rest, false)
		if err != nil {
			return nil, 0, fmt.Errorf("%w in the path", err)
		}
		if escaped == 0 && strings.ContainsRune(joined, '/') {
			escaped = len(segments) + 1
		}
		for segment := range strings.SplitSeq(joined, "/") {
			if err := checkSegment(segment); err != nil {
				return nil, 0, err
			}
			segments = append(segments, models.MaskTokens(segment))
		}
	}
	return segments, escaped, nil
}

var errSlash = ambiguous("the path has an encoded slash or a backslash")

func checkSegment(s string) error {
	// Some servers drop white space around names, and dots before it.
	switch strings.TrimSpace(s) {
	case "":
		return ambiguous("the path has an empty segment")
	case ".", "..":
		return ambiguous("the path has a dot segment")
	}
	for _, r := range s {
		switch {
		case r == '\\':
			return errSlash
		case r == ';':
			return ambiguous("the path has a semicolon")
		case unicode.IsControl(r):
			return ambiguous("the path has a control character")
		}
	}
	if encodedAgain(s) {
		return ambiguous("the path is encoded twice")
	}
	return nil
}

// parseQuery returns the decoded parameters, in the order in which they came for
// each name.
func parseQuery(raw string) (map[string][]string, error) {
	query := map[string][]string{}
	if strings.Contains(raw, ";") { // a separator to some parsers
		return nil, ambiguous("the query has a semicolon")
	}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := decode(rawName, true)
		if err != nil {
			return nil, fmt.Errorf("%w in the query", err)
		}
		value, err := decode(rawValue, true)
		if err != nil {
			return nil, fmt.Errorf("%w in the query", err)
		}
		switch {
		case name == "":
			return nil, ambiguous("the query has a parameter without a name")
		case strings.ContainsFunc(name, unicode.IsControl) || encodedAgain(name):
			return nil, ambiguous("the query has a parameter with a name that can be read in two ways")
		case strings.ContainsRune(value, 0):
			return nil, ambiguous("the query has a NUL")
		case isMethodOverride(name):
			return nil, ambiguous("the query asks for another method")
		}
		name = models.MaskTokens(name)
		query[name] = append(query[name], models.MaskTokens(value))
	}
	return query, nil
}

// decode undoes percent-encoding once, and in a query + for a space.
func decode(s string, query bool) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && query:
			out = append(out, ' ')
		case c != '%':
			out = append(out, c)
		case i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			return "", ambiguous("there is an incomplete percent-encoding")
		}
	}
	if !utf8.Valid(out) { // overlong forms and surrogates are not valid either
		return "", ambiguous("there is text that is not UTF-8")
	}
	return string(out), nil
}

// encodedAgain reports whether decoding s, already decoded, would change it.
func encodedAgain(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && isHex(s[i+1]) && isHex(s[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
