package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/request"
	"patrol/server/ui"
)

// The frame of a request is everything around the values that a handler reads: the
// names in its query and form, the parts of its path, and whether there is a body.
// The route table declares it, and what is not declared is refused before the
// handler runs. A call that means one token and names it in a way that the route
// does not read must never be taken for a call that means all of them.

// payload says which body a route takes.
type payload int

const (
	// nothing: a body is refused.
	nothing payload = iota
	// object is a JSON object, which has to be there.
	object
	// objectOrNothing is a JSON object, or no body.
	objectOrNothing
)

// accepts is what a route reads beside its path.
type accepts struct {
	// query are the parameters of the address, each given at most once.
	query []string
	// lists are parameters or form fields that may be given several times.
	lists []string
	// ignored are parameters that the contract wants ignored instead of refused.
	ignored []string
	// open takes any parameter: the address was composed by another program, whose
	// standard adds names over time.
	open bool
	body payload
	// form are the fields of a submitted form, each given at most once.
	form []string
	// rows are the numbered fields of a list of scopes.
	rows bool
}

// checkFrame refuses a request that has more, or less, around it than its route
// declares. An API call must also give every declared parameter that it names a
// value, but for the cursor, which is empty on the first page; pages send the empty
// fields of a filter along.
func (s *Server) checkFrame(c *gin.Context, r *route) error {
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
	r.accepts.checkQuery(query, !r.page, &v)
	if err := v.Err(); err != nil {
		return err
	}
	switch {
	case len(r.form) > 0 && isForm(c.Request.Header), r.page && c.Request.Method == http.MethodPost:
		return s.checkForm(c, r)
	case r.body == nothing:
		return refuseBody(c.Request)
	}
	return nil
}

// checkQuery adds to v what is wrong with the parameters of an address.
func (a accepts) checkQuery(query url.Values, valued bool, v *models.Invalid) {
	for _, name := range sortedNames(query) {
		values := query[name]
		several := slices.Contains(a.lists, name)
		switch {
		case slices.Contains(a.ignored, name):
		case !several && !slices.Contains(a.query, name):
			if !a.open {
				v.Add(shownName(name), "is not a parameter of this request; %s", a.takes())
			}
		case len(values) > 1 && !several:
			v.Add(name, "is given more than once")
		case valued && name != "after" && slices.ContainsFunc(values, blank):
			v.Add(name, "has no value; leave the parameter out, or give it one")
		}
	}
}

// takes lists the parameters in words.
func (a accepts) takes() string {
	names := slices.Concat(a.query, a.lists)
	if len(names) == 0 {
		return "it takes none"
	}
	return "it takes " + strings.Join(names, ", ")
}

// checkForm reads a submitted form and refuses fields that the route does not
// read. A form without any field may come without a body.
func (s *Server) checkForm(c *gin.Context, r *route) error {
	if !isForm(c.Request.Header) {
		if len(r.form) == 0 && len(r.lists) == 0 {
			return refuseBody(c.Request)
		}
		return errNoForm
	}
	form, err := s.formUpTo(c, max(maxForm, s.cfg.Playground.MaxBody))
	if err != nil {
		return err
	}
	var v models.Invalid
	for _, name := range sortedNames(form) {
		several := slices.Contains(r.lists, name)
		switch {
		case !several && !slices.Contains(r.form, name) && !(r.rows && ui.IsRowField(name)):
			v.Add(shownName(name), "is not a field of this form")
		case len(form[name]) > 1 && !several:
			v.Add(name, "is given more than once")
		}
	}
	return v.Err()
}

func isForm(h http.Header) bool {
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

func blank(text string) bool { return strings.TrimSpace(text) == "" }

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
