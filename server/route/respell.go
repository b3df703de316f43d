package route

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"patrol/models"
)

// Edit puts Text into the place of the bytes from At up to Until of a body.
type Edit struct {
	At, Until int64
	Text      string
}

// RespellBody returns the edits, in order, after which a body spells names in another
// way: spellings says which by which. Only values are touched, and of
// those only names in the fields that need declares; every other byte stays. The body is
// one that [ReadBody] has read. An error wraps [ErrAmbiguous], unless body could not be
// read.
func RespellBody(need *models.BodyNeed, body io.Reader, header http.Header, spellings map[string]string) ([]Edit, error) {
	if need.Format == models.BodyMultipart {
		return respellForm(need, body, header, spellings)
	}
	return respellJSON(need.Compiled(), body, spellings)
}

// EditedReader returns what a body of size bytes, read from r, becomes with the edits.
func EditedReader(r io.ReaderAt, size int64, edits []Edit) (edited io.Reader, length int64) {
	var parts []io.Reader
	var at int64
	length = size
	for _, e := range edits {
		parts = append(parts, io.NewSectionReader(r, at, e.At-at), strings.NewReader(e.Text))
		length += int64(len(e.Text)) - (e.Until - e.At)
		at = e.Until
	}
	return io.MultiReader(append(parts, io.NewSectionReader(r, at, size-at))...), length
}

// respellJSON walks through the values of the declared members.
func respellJSON(need *models.BodyNeed, body io.Reader, spellings map[string]string) (edits []Edit, err error) {
	dec := jsontext.NewDecoder(bufio.NewReaderSize(body, windowSize), jsontext.AllowDuplicateNames(true))
	declared := false // whether what is read is in the value of a declared member
	for {
		if dec.PeekKind() == '"' {
			raw, err := dec.ReadValue()
			if err != nil {
				return nil, explainJSON(err)
			}
			text, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return nil, explainJSON(err)
			}
			switch depth := dec.StackDepth(); {
			case isMemberName(dec):
				if depth == 1 {
					name := string(text)
					declared = slices.Contains(need.Fields, name) || need.List(name) != nil
				}
			case declared && depth >= 1:
				if to, ok := spellings[string(text)]; ok {
					quoted, err := jsontext.AppendQuote(nil, to)
					if err != nil {
						return nil, ambiguous("a name cannot be written as JSON")
					}
					end := dec.InputOffset()
					edits = append(edits, Edit{end - int64(len(raw)), end, string(quoted)})
				}
			}
			continue
		}
		if _, err := dec.ReadToken(); err != nil {
			return nil, explainJSON(err)
		}
		if dec.StackDepth() == 0 {
			return edits, nil
		}
	}
}

// isMemberName reports whether what was read last is the name of a member.
func isMemberName(dec *jsontext.Decoder) bool {
	kind, length := dec.StackIndex(dec.StackDepth())
	return kind == '{' && length%2 == 1
}

// respellForm finds the parts that name something.
func respellForm(need *models.BodyNeed, body io.Reader, header http.Header, spellings map[string]string) (edits []Edit, err error) {
	n := &names{need: need.Compiled()}
	n.spot = func(h partHeader, value string, at, until int64) error {
		to, ok := spellings[value]
		if !ok {
			return nil
		}
		if h.length >= 0 && int64(len(to)) != h.length {
			return ambiguous("%q says how long it is, so that its name cannot be spelled in another way", h.name)
		}
		edits = append(edits, Edit{at, until, to})
		return nil
	}
	if err := readMultipart(n, body, header.Get("Content-Type")); err != nil {
		return nil, err
	}
	return edits, nil
}

// RespellPath returns r with another spelling for a name in the segments of its path from
// number skip on; ok is false if they have it nowhere, or more than once.
func RespellPath(r models.HTTPRequest, skip int, from, to string) (models.HTTPRequest, bool) {
	old := strings.Split(from, "/")
	found := -1
	for at := skip; at+len(old) <= len(r.Segments); at++ {
		if slices.Equal(r.Segments[at:at+len(old)], old) {
			if found >= 0 {
				return r, false
			}
			found = at
		}
	}
	if found < 0 {
		return r, false
	}
	slash := strings.HasSuffix(r.Path, "/") && len(r.Segments) > 0
	r.Segments = slices.Concat(r.Segments[:found], strings.Split(to, "/"), r.Segments[found+len(old):])
	r.Path = "/" + strings.Join(r.Segments, "/")
	if slash {
		r.Path += "/"
	}
	return r, true
}

// RespellQuery is the same for a value in the query.
func RespellQuery(r models.HTTPRequest, from, to string) (models.HTTPRequest, bool) {
	name, at := "", -1
	for key, values := range r.Query {
		for i, value := range values {
			if value == from {
				if at >= 0 {
					return r, false
				}
				name, at = key, i
			}
		}
	}
	if at < 0 {
		return r, false
	}
	query := make(map[string][]string, len(r.Query))
	for key, values := range r.Query {
		query[key] = slices.Clone(values)
	}
	query[name][at] = to
	r.Query = query
	return r, true
}
