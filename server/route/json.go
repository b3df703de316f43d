package route

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep a JSON body may nest. Common parsers give up at a thousand
// or so, and one that gives up in the middle may have seen the model already.
const maxDepth = 512

// readJSON scans a whole JSON document for the members of its top level. The
// decoder refuses what RFC 8259 and RFC 7493 do: invalid UTF-8, unpaired
// surrogates, a byte order mark, and so on. It keeps no more than one token in
// memory, and if body is a *bytes.Buffer not even that.
func readJSON(n *names, body io.Reader, contentType string) error {
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
