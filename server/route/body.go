package route

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"patrol/models"
)

// maxModel is the longest model name that is read, in bytes: as long as an
// entity may be.
const maxModel = 256

// maxNames bounds the names that one list of a body may give: no request may ask more
// questions.
const maxNames = 32

// ReadBody returns what a body says in the fields that need declares, which is nothing
// for an empty body. All of body is read. header is the request's; of it only
// Content-Type and Content-Encoding matter. An error wraps [ErrAmbiguous], unless body
// could not be read, and its [Reason] says what is wrong with the body.
func ReadBody(need *models.BodyNeed, body io.Reader, header http.Header) (*models.HTTPBody, error) {
	b, err := readBody(need, body, header)
	return b, withCode(models.BodyInvalid, err)
}

func readBody(need *models.BodyNeed, body io.Reader, header http.Header) (*models.HTTPBody, error) {
	for _, value := range header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(value), "identity") {
			return nil, withCode(models.EncodingUnsupported, ambiguous("the body has a Content-Encoding, and only bodies without one are read here"))
		}
	}
	if len(header.Values("Content-Type")) > 1 {
		return nil, ambiguous("there is more than one content type")
	}
	if len(need.Fields)+len(need.Each)+len(need.Absent) == 0 {
		return nil, ambiguous("the route names no field of the body to read")
	}
	n := names{need: need.Compiled()}
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
		return nil, err
	}
	return n.body()
}

// AsRead reports whether every reader takes a request's body for what it was read as, by
// what its own header says of it.
func AsRead(body *models.HTTPBody, header http.Header) bool {
	said := header.Get("Content-Type")
	if said == "" || body.ContentType == "" || said == body.ContentType {
		return true
	}
	media, params, err := parseMediaValue(said)
	if err != nil {
		return false
	}
	for name := range params {
		if name != "charset" && (name != "boundary" || media == jsonType) {
			return false
		}
	}
	own, _, _ := strings.Cut(body.ContentType, ";")
	if own != jsonType {
		return media == own
	}
	return media == jsonType || media == "text/plain" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
}

const (
	jsonType = "application/json"
	formType = "multipart/form-data"
)

// names collects what a body says in the fields that name something.
type names struct {
	need        *models.BodyNeed
	found       []models.HTTPField
	lists       []string // the members that were there, of those that hold several names
	contentType string
	// spot is told where in a form a field has its value; nil: nobody is.
	spot func(h partHeader, value string, at, until int64) error
}

// claims reports whether key is one of the fields. A key that some parser could
// take for one is an error, and so is one that the body must not have, or that asks for
// another method.
func (n *names) claims(key string) (bool, error) {
	switch {
	case isMethodOverride(key):
		return false, ambiguous("the body asks for another method")
	case slices.Contains(n.need.Fields, key):
		return true, nil
	case n.need.Confuses(key):
		return false, ambiguous("the body has %.60q, which some readers take for %q", key, n.need.Confused(key))
	case n.need.Refuses(key):
		return false, withCode(models.RouteUnmapped, ambiguous("the body has %.60q, by which some servers let clients choose a model, or where it is, and this route does not read it", key))
	}
	return false, nil
}

// checkName refuses what cannot be one name to every reader.
func checkName(field, value string) error {
	switch {
	case len(value) > maxModel:
		return ambiguous("%q is longer than %d bytes", field, maxModel)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return ambiguous("%q has characters that no name has", field)
	case strings.Contains(value, ","): // LiteLLM asks each of the models
		return ambiguous("%q has a comma, which some readers take for the end of a name", field)
	}
	return nil
}

// set takes note of the value of a field.
func (n *names) set(field, value string) error {
	if err := n.once(field); err != nil {
		return err
	}
	n.found = append(n.found, models.HTTPField{Name: field, Value: value})
	return checkName(field, value)
}

// list takes note of a field that holds several names.
func (n *names) list(field string) error {
	if err := n.once(field); err != nil {
		return err
	}
	n.found = append(n.found, models.HTTPField{Name: field, List: true})
	return nil
}

// add takes note of one of the names in a field that holds several.
func (n *names) add(field, value string) error {
	if value == "" {
		return ambiguous("%q has a name that is empty", field)
	}
	if err := checkName(field, value); err != nil {
		return err
	}
	at := slices.IndexFunc(n.found, func(f models.HTTPField) bool { return f.Name == field })
	if at < 0 {
		at, n.found = len(n.found), append(n.found, models.HTTPField{Name: field, List: true})
	}
	f := &n.found[at]
	if slices.Contains(f.Values, value) {
		return nil
	}
	if len(f.Values) == maxNames {
		return ambiguous("%q has more than %d names", field, maxNames)
	}
	f.Values = append(f.Values, value)
	return nil
}

// once refuses a field that is there already.
func (n *names) once(field string) error {
	if slices.ContainsFunc(n.found, func(f models.HTTPField) bool { return f.Name == field }) {
		return ambiguous("the body has %q more than once", field)
	}
	return nil
}

// body returns what was found. A field that is empty names nothing: clients of Ollama
// send the older of its two names for a model empty.
func (n *names) body() (*models.HTTPBody, error) {
	b := &models.HTTPBody{ContentType: n.contentType}
	if len(n.found) > 0 {
		b.Fields = make([]models.HTTPField, 0, len(n.found))
	}
	for _, declared := range [...][]string{n.need.Fields, n.need.Each} {
		for _, name := range declared {
			for _, f := range n.found {
				if f.Name == name && (f.List || f.Value != "") {
					b.Fields = append(b.Fields, f)
				}
			}
		}
	}
	first := ""
	for _, f := range b.Fields {
		// Clients of Ollama may say either of the two for one and the same.
		if f.List || !n.need.Agree && f.Name != "model" && f.Name != "name" {
			continue
		}
		if first != "" && f.Value != first {
			return nil, ambiguous("the body names two different models")
		}
		first = f.Value
	}
	return b, nil
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
