package route

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"patrol/models"
)

// maxModel is the longest model name that is read, in bytes: as long as an
// entity may be.
const maxModel = 256

// ReadModel returns the model that a body names in one of need.Fields, or "" if
// it names none, which includes an empty body. All of body is read. header is the
// request's; of it only Content-Type and Content-Encoding matter. An error wraps
// [ErrAmbiguous], unless body could not be read, and its [Reason] says what is
// wrong with the body.
func ReadModel(need models.BodyNeed, body io.Reader, header http.Header) (string, error) {
	model, err := readModel(need, body, header)
	return model, withCode(models.BodyInvalid, err)
}

func readModel(need models.BodyNeed, body io.Reader, header http.Header) (string, error) {
	if len(need.Fields) == 0 {
		return "", ambiguous("the route names no field of the body to read")
	}
	for _, value := range header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(value), "identity") {
			return "", withCode(models.EncodingUnsupported, ambiguous("the body has a Content-Encoding, and only bodies without one are read here"))
		}
	}
	if len(header.Values("Content-Type")) > 1 {
		return "", ambiguous("there is more than one content type")
	}
	n := names{fields: need.Fields}
	var err error
	switch contentType := header.Get("Content-Type"); need.Format {
	case models.BodyJSON:
		err = readJSON(&n, body, contentType)
	case models.BodyMultipart:
		err = readMultipart(&n, body, contentType)
	default:
		err = ambiguous("the route expects a body in an unknown format")
	}
	if err != nil {
		return "", err
	}
	return n.model()
}

// names collects what a body says in the fields that may name the model.
type names struct {
	fields []string
	found  map[string]string // by field
}

// claims reports whether key is one of the fields. A key that some parser could
// take for one is an error, and so is one that asks for another method.
func (n *names) claims(key string) (bool, error) {
	if isMethodOverride(key) {
		return false, ambiguous("the body asks for another method")
	}
	for _, field := range n.fields {
		if key == field {
			return true, nil
		}
		if looksLike(key, field) {
			return false, ambiguous("the body has a name that some readers take for %q", field)
		}
	}
	return false, nil
}

// looksLike reports whether key is field to a reader that ignores case (Go's
// encoding/json folds by Unicode, as EqualFold does) or white space, ends strings
// at a NUL, or takes brackets for an index (PHP, Rails, qs).
func looksLike(key, field string) bool {
	key, _, _ = strings.Cut(key, "\x00")
	key, _, _ = strings.Cut(key, "[")
	return strings.EqualFold(strings.TrimFunc(key, unicode.IsSpace), field)
}

// set takes note of the value of a field.
func (n *names) set(field, value string) error {
	if _, twice := n.found[field]; twice {
		return ambiguous("the body has %q more than once", field)
	}
	switch {
	case len(value) > maxModel:
		return ambiguous("%q is longer than %d bytes", field, maxModel)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return ambiguous("%q has characters that no name has", field)
	}
	if n.found == nil {
		n.found = make(map[string]string, len(n.fields))
	}
	n.found[field] = value
	return nil
}

// model returns the one name that was found.
func (n *names) model() (string, error) {
	model, some := "", false
	for _, field := range n.fields {
		value, ok := n.found[field]
		if !ok {
			continue
		}
		if some && value != model {
			return "", ambiguous("the body names two different models")
		}
		model, some = value, true
	}
	return model, nil
}

// checkCharset refuses a charset that would make other text of the same bytes.
func checkCharset(params map[string]string) error {
	switch charset := params["charset"]; strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	default:
		return withCode(models.EncodingUnsupported, ambiguous("the body claims a character set other than UTF-8"))
	}
}

// parseMediaValue reads a header value of the form `value; name=value; …` (RFC
// 9110 §5.6.6), in which mime.ParseMediaType would forgive too much. Names and
// the leading value come back in lower case. Extended parameters (`name*`, RFC
// 8187), backslashes, and a name that is there twice are refused, because readers
// differ on each; except `filename*`, which clients really send beside `filename`.
func parseMediaValue(text string) (value string, params map[string]string, err error) {
	head, rest, more := strings.Cut(text, ";")
	value = strings.ToLower(strings.Trim(head, " \t"))
	params = map[string]string{}
	for more {
		var name, param string
		if name, param, rest, more, err = cutParam(rest); err != nil {
			return "", nil, err
		}
		if name == "" && !more { // nothing behind the last semicolon
			break
		}
		if name == "" {
			return "", nil, errHeaderValue
		}
		if _, twice := params[name]; twice {
			return "", nil, fmt.Errorf("%w twice: %q", errHeaderValue, name)
		}
		params[name] = param
	}
	return value, params, nil
}

var errHeaderValue = ambiguous("a header of the body has a parameter that can be read in two ways")

// cutParam cuts one parameter off text, which more says goes on behind it.
func cutParam(text string) (name, value, rest string, more bool, err error) {
	text = strings.TrimLeft(text, " \t")
	end := strings.IndexFunc(text, func(r rune) bool { return !isTokenChar(r) })
	if end < 0 {
		end = len(text)
	}
	name, text = strings.ToLower(text[:end]), text[end:]
	if name == "" {
		rest, more, err = endOfParam(text)
		return "", "", rest, more, err
	}
	if !strings.HasPrefix(text, "=") || strings.Contains(name, "*") && name != "filename*" {
		return "", "", "", false, errHeaderValue
	}
	text = text[1:]
	if quoted, ok := strings.CutPrefix(text, `"`); ok {
		value, text, ok = strings.Cut(quoted, `"`)
		if !ok || strings.ContainsFunc(value, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }) {
			return "", "", "", false, errHeaderValue
		}
	} else {
		end := strings.IndexFunc(text, func(r rune) bool { return !isTokenChar(r) })
		if end < 0 {
			end = len(text)
		}
		value, text = text[:end], text[end:]
		if value == "" {
			return "", "", "", false, errHeaderValue
		}
	}
	rest, more, err = endOfParam(text)
	return name, value, rest, more, err
}

func endOfParam(text string) (rest string, more bool, err error) {
	text = strings.TrimLeft(text, " \t")
	if text == "" {
		return "", false, nil
	}
	if text[0] != ';' {
		return "", false, errHeaderValue
	}
	return text[1:], true, nil
}

// isTokenChar tells the characters of RFC 9110 §5.6.2.
func isTokenChar(r rune) bool {
	return isAlphanumeric(r) || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
