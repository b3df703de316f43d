package endpoint

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/request"
)

// The frame of a request is everything around the values that a handler reads: the
// names in its query and form, the parts of its path, and whether there is a body.
// The route table declares it, and what is not declared is refused before the
// handler runs. A call that means one token and names it in a way that the route
// does not read must never be taken for a call that means all of them.

// Payload says which body a route takes.
type Payload int

// The bodies.
const (
	// Nothing means that a body is refused.
	Nothing Payload = iota
	// Object is a JSON object, which has to be there.
	Object
	// ObjectOrNothing is a JSON object, or no body.
	ObjectOrNothing
)

// Accepts has everything that a route reads beside its path.
type Accepts struct {
	// Query are the parameters of the address, each given at most once.
	Query []string
	// Lists are parameters or form fields that may be given several times.
	Lists []string
	// Ignored are parameters that the contract wants ignored instead of refused.
	Ignored []string
	// Open takes any parameter: the address was composed by another program, whose
	// standard adds names over time.
	Open bool
	Body Payload
	// Form are the fields of a submitted form, each given at most once.
	Form []string
	// Rows reports whether a name is one of the numbered fields of a list; nil: there is none.
	Rows func(name string) bool
}

// CheckFrame refuses a request that has more, or less, around it than its route
// declares; a form has at most so many bytes. An API call must also give every declared parameter that it names a
// value, but for the cursor, which is empty on the first page; pages send the empty
// fields of a filter along.
func (r *Route) CheckFrame(c *gin.Context, maxForm int64) error {
	var v models.Invalid
	for _, p := range c.Params {
		if strings.TrimSpace(p.Value) == "" {
			v.Add(p.Key, "is empty in the path")
		}
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil { // net/url would leave out what it cannot read
		return models.WrapError(models.CodeMalformed, "the query of the address could not be read", err)
	}
	r.Accepts.checkQuery(query, !r.Page, &v)
	if err := v.Err(); err != nil {
		return err
	}
	switch {
	case len(r.Form) > 0 && IsForm(c.Request.Header), r.Page && c.Request.Method == http.MethodPost:
		return r.checkForm(c, maxForm)
	case r.Body == Nothing:
		return refuseBody(c.Request)
	}
	return nil
}

// formerNames are names that filters had before all lists called them the same. Whoever still uses
// one is told the name of today.
var formerNames = map[string]string{"owner": "email", "user": "user_id", "token": "token_id"}

// checkQuery adds to v what is wrong with the parameters of an address.
func (a Accepts) checkQuery(query url.Values, valued bool, v *models.Invalid) {
	for _, name := range sortedNames(query) {
		values := query[name]
		several := slices.Contains(a.Lists, name)
		switch {
		case slices.Contains(a.Ignored, name):
		case !several && !slices.Contains(a.Query, name):
			switch now := formerNames[name]; {
			case a.Open:
			case now != "" && slices.Contains(a.Query, now):
				v.Add(name, "is called %s", now)
			default:
				v.Add(shownName(name), "is not a parameter of this request; %s", a.takes())
			}
		case len(values) > 1 && !several:
			v.Add(name, "is given more than once")
		case valued && name != "after" && slices.ContainsFunc(values, Blank):
			v.Add(name, "has no value; leave the parameter out, or give it one")
		}
	}
}

// takes lists the parameters in words.
func (a Accepts) takes() string {
	names := slices.Concat(a.Query, a.Lists)
	if len(names) == 0 {
		return "it takes none"
	}
	return "it takes " + strings.Join(names, ", ")
}

// checkForm reads a submitted form and refuses fields that the route does not
// read. A form without any field may come without a body.
func (r *Route) checkForm(c *gin.Context, limit int64) error {
	if !IsForm(c.Request.Header) {
		if len(r.Form) == 0 && len(r.Lists) == 0 {
			return refuseBody(c.Request)
		}
		return errNoForm
	}
	form, err := ReadForm(c, limit)
	if err != nil {
		return err
	}
	var v models.Invalid
	for _, name := range sortedNames(form) {
		several := slices.Contains(r.Lists, name)
		switch {
		case !several && !slices.Contains(r.Form, name) && !(r.Rows != nil && r.Rows(name)) && !(name == ConfirmField && r.Confirms()):
			v.Add(shownName(name), "is not a field of this form")
		case len(form[name]) > 1 && !several:
			v.Add(name, "is given more than once")
		}
	}
	return v.Err()
}

// IsForm reports whether a body is a submitted form.
func IsForm(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "application/x-www-form-urlencoded"
}

// refuseBody returns an error if the request has a body. A length that was not
// told is found out by reading, which the read timeout bounds.
func refuseBody(r *http.Request) error {
	there := r.ContentLength > 0
	if r.ContentLength < 0 {
		var one [1]byte
		n, err := io.ReadFull(r.Body, one[:])
		if err != nil && !errors.Is(err, io.EOF) {
			return models.WrapError(models.CodeMalformed, "the request body could not be read to its end", err)
		}
		there = n > 0
	}
	if !there {
		return nil
	}
	var v models.Invalid
	v.Add("body", "is not taken: this request has no body")
	return v.Err()
}

// Blank reports whether a text has nothing but space.
func Blank(text string) bool { return strings.TrimSpace(text) == "" }

// sortedNames are the names of v in order, so that an answer is the same each time.
func sortedNames(v url.Values) []string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// shownName is a name that the sender chose, as answers repeat it.
func shownName(name string) string {
	if name == "" {
		return "(empty name)"
	}
	return strings.ToValidUTF8(request.Truncate(models.MaskTokens(name), 64), "?")
}

// MaxForm bounds a form: 64 scopes with ids of 256 characters, percent-encoded,
// and room to spare.
const MaxForm = 256 << 10

var errNoForm = models.NewError(models.CodeMediaType, "a form is sent as application/x-www-form-urlencoded")

// ReadForm reads a submitted form of at most so many bytes.
func ReadForm(c *gin.Context, limit int64) (url.Values, error) {
	media, _, err := mime.ParseMediaType(c.Request.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, errNoForm
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, limit)
	if err := c.Request.ParseForm(); err != nil {
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return nil, TooLarge(limit)
		}
		return nil, models.WrapError(models.CodeMalformed, "the form could not be read", err)
	}
	return c.Request.PostForm, request.Of(c.Request.Context()).Enter()
}

// WantsPage reports whether a request that no route answers with a page comes from somebody
// who typed or followed an address or sent a form, and not from a program.
func WantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}

// TooLarge is the error for a body of more than limit bytes.
func TooLarge(limit int64) error {
	return models.NewError(models.CodeTooLarge, fmt.Sprintf("the request body is larger than %d KiB", limit>>10))
}

// AllMeant returns an error unless values say that all tokens are meant. instead
// says how one is revoked.
func AllMeant(values url.Values, instead string) error {
	if values.Get("all") == "true" {
		return nil
	}
	var v models.Invalid
	v.Add("all", "must be true: this revokes every token of yours; %s", instead)
	return v.Err()
}

// AnswersHead answers a HEAD request with 200 and no body, and reports whether the request was
// one. It is for what a HEAD request must neither hand out nor note.
func AnswersHead(c *gin.Context) bool {
	if c.Request.Method != http.MethodHead {
		return false
	}
	c.Status(http.StatusOK)
	return true
}
