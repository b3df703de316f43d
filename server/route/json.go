package route

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"patrol/models"
)

// maxDepth bounds the nesting of a JSON body. Common parsers give up at a thousand
// or so, and one that gives up in the middle may have seen the model already.
const maxDepth = 512

// readJSON scans a whole JSON document for the members of its top level. The
// decoder refuses what RFC 8259 and RFC 7493 do: invalid UTF-8, unpaired
// surrogates, a byte order mark, and so on. It keeps no more than one token in
// memory, and if body is a *bytes.Buffer not even that.
func readJSON(n *names, body io.Reader, contentType string) error {
	n.contentType = jsonType
	if contentType != "" {
		_, params, err := parseMediaValue(contentType)
		if err != nil {
			return err
		}
		if err := checkCharset(params); err != nil {
			return err
		}
	}
	if _, ok := body.(*bytes.Buffer); !ok { // the decoder reads in small pieces
		body = bufio.NewReaderSize(body, windowSize)
	}
	// Names that repeat in nested objects are the upstream's affair, and to
	// remember them all would take memory.
	dec := jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(true))
	switch kind := dec.PeekKind(); kind {
	case '{':
	case 0: // nothing there, or nothing that JSON begins with
		_, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return explainJSON(err)
	default:
		return ambiguous("the body is not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return explainJSON(err)
	}
	for dec.PeekKind() != '}' {
		if err := readMember(n, dec); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return explainJSON(err)
	}
	switch _, err := dec.ReadToken(); {
	case err == nil:
		return ambiguous("the body goes on after the JSON object")
	case !errors.Is(err, io.EOF):
		return explainJSON(err)
	}
	return nil
}

// readMember reads one name and its value.
func readMember(n *names, dec *jsontext.Decoder) error {
	token, err := dec.ReadToken()
	if err != nil {
		return explainJSON(err)
	}
	name := token.String()
	if list := n.need.List(name); list != nil {
		return readList(n, dec, name, list)
	}
	field, err := n.claims(name)
	if err != nil {
		return err
	}
	if !field {
		return skipValue(dec)
	}
	if kind := dec.PeekKind(); kind != '"' && kind != 0 {
		return ambiguous("%q is not a string", name)
	}
	if token, err = dec.ReadToken(); err != nil {
		return explainJSON(err)
	}
	return n.set(name, token.String())
}

// readList reads the value of a member that may hold several names.
func readList(n *names, dec *jsontext.Decoder, name string, list *models.BodyList) error {
	if isMethodOverride(name) {
		return ambiguous("the body asks for another method")
	}
	if slices.Contains(n.lists, name) {
		return ambiguous("the body has %q more than once", name)
	}
	n.lists = append(n.lists, name)
	kind := dec.PeekKind()
	if kind == 'n' {
		return skipValue(dec) // which is as if it were not there
	}
	if list.Whole {
		if err := n.list(name); err != nil {
			return err
		}
	}
	switch {
	case kind == '[':
	case kind == '{' && list.Whole:
		return readValues(n, dec, name)
	case kind == 0:
		return skipValue(dec) // for its error
	default:
		return ambiguous("%q is not a list", name)
	}
	if _, err := dec.ReadToken(); err != nil {
		return explainJSON(err)
	}
	for dec.PeekKind() != ']' {
		var err error
		switch kind := dec.PeekKind(); {
		case kind == '"' && list.Whole:
			err = addString(n, dec, name)
		case kind == '{':
			err = readElement(n, dec, name, list)
		case kind == 0 || !list.Whole:
			err = skipValue(dec)
		default:
			err = ambiguous("%q has something else than names", name)
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return explainEnd(err)
}

// readValues reads an object whose members are names.
func readValues(n *names, dec *jsontext.Decoder, name string) error {
	return members(dec, func(string) error {
		if dec.PeekKind() == '"' {
			return addString(n, dec, name)
		}
		return ambiguous("%q has something else than names", name)
	})
}

// readElement reads an object in a list. If the list's elements are names, it gives one.
func readElement(n *names, dec *jsontext.Decoder, name string, list *models.BodyList) error {
	var seen []string
	named := false
	err := members(dec, func(member string) error {
		entry, reads := list.Members[member]
		whole := list.Whole && slices.Contains(n.need.Fields, member)
		switch {
		case reads || whole:
		case list.Refuses(member) || list.Whole && n.need.Looks(member):
			return choosesIn(name, member)
		case dec.PeekKind() == '{' && list.RefusesIn(member, ""):
			return members(dec, func(inner string) error {
				if list.RefusesIn(member, inner) {
					return choosesIn(name, inner)
				}
				return skipValue(dec)
			})
		default:
			return skipValue(dec)
		}
		if slices.Contains(seen, member) {
			return ambiguous("an object in %q has %q more than once", name, member)
		}
		seen = append(seen, member)
		switch kind := dec.PeekKind(); {
		case kind == 'n' && !whole, kind == 0:
			return skipValue(dec)
		case kind != '"':
			return ambiguous("%q in %q is not a string", member, name)
		case whole && named:
			return ambiguous("an object in %q gives two names", name)
		case whole:
			named = true
			return addString(n, dec, name)
		}
		return addString(n, dec, entry)
	})
	if err == nil && list.Whole && !named {
		return ambiguous("%q has an object that names nothing", name)
	}
	return err
}

// choosesIn refuses a member of an object in a list.
func choosesIn(list, member string) error {
	return withCode(models.RouteUnmapped, ambiguous("%q has an object with %.60q, by which some servers let clients choose a model, or where it is, and this route does not read it", list, member))
}

// addString reads a string, which is one of the names in field.
func addString(n *names, dec *jsontext.Decoder, field string) error {
	token, err := dec.ReadToken()
	if err != nil {
		return explainJSON(err)
	}
	return n.add(field, token.String())
}

// members reads an object and calls f for each of its members, to read the value.
func members(dec *jsontext.Decoder, f func(name string) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return explainJSON(err)
	}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return explainJSON(err)
		}
		if err := f(token.String()); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return explainEnd(err)
}

func explainEnd(err error) error {
	if err != nil {
		return explainJSON(err)
	}
	return nil
}

// skipValue reads past one value.
func skipValue(dec *jsontext.Decoder) error {
	outside := dec.StackDepth()
	for {
		if _, err := dec.ReadToken(); err != nil {
			return explainJSON(err)
		}
		switch depth := dec.StackDepth(); {
		case depth == outside:
			return nil
		case depth > maxDepth:
			return ambiguous("the JSON nests deeper than %d levels", maxDepth)
		}
	}
}

// explainJSON tells what is not JSON from what could not be read.
func explainJSON(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e, io.ErrUnexpectedEOF) {
			return ambiguous("the JSON ends too early")
		}
		return ambiguous("the body is not valid JSON at byte %d", e.ByteOffset)
	}
	if errors.Is(err, io.EOF) {
		return ambiguous("the JSON ends too early")
	}
	return fmt.Errorf("read the body: %w", err)
}
