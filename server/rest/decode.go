package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

var (
	bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

	// strict refuses members that dst does not have. Duplicate names, invalid
	// UTF-8 and names that differ in case are refused by the package's defaults.
	strict = json.RejectUnknownMembers(true)

	// withoutNull is strict and refuses null where a text has to be. Where null has a meaning, or
	// stands for what is absent, the field is a pointer.
	withoutNull = json.JoinOptions(strict, json.WithUnmarshalers(
		json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ *string) error { return refuseNull(d) }),
	))
	null    = []byte("null")
	errNull = errors.New("null is no text")
)

func refuseNull(d *jsontext.Decoder) error {
	if d.PeekKind() == jsontext.KindNull {
		return errNull
	}
	return errors.ErrUnsupported // the usual way
}

// readJSON reads the body of r, one JSON object of at most limit bytes, into
// dst. What cannot be read as JSON is CodeMalformed; an unknown or wrongly typed
// member is CodeInvalid and names its path.
//
// Content types other than JSON are refused rather than guessed at: forms and
// text/plain are what a foreign web page can make a browser send. A missing
// type counts as JSON.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64, dst any) error {
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return endpoint.TooLarge(limit)
	}
	buf := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return endpoint.TooLarge(limit)
		}
		return models.WrapError(models.CodeMalformed, "the request body could not be read to its end", err)
	}
	return parseJSON(buf.Bytes(), dst)
}

func checkJSONType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return models.NewError(models.CodeMediaType, "send the body without a Content-Encoding")
	}
	switch text := h.Get("Content-Type"); text {
	case "", "application/json":
		return nil
	default:
		media, params, err := mime.ParseMediaType(text)
		charset := params["charset"]
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") ||
			charset != "" && !strings.EqualFold(charset, "utf-8") {
			return models.NewError(models.CodeMediaType, "send the body as application/json in UTF-8")
		}
		return nil
	}
}

// parseJSON is the part of readJSON that needs no request.
func parseJSON(data []byte, dst any) error {
	data = bytes.TrimLeft(data, " \t\r\n")
	if len(data) == 0 {
		return models.NewError(models.CodeMalformed, "the request has no body; send a JSON object")
	}
	options := strict
	if bytes.Contains(data, null) { // which few have, and the rest need not be slower for
		options = withoutNull
	}
	err := json.Unmarshal(data, dst, options)
	switch {
	case err == nil && data[0] == '{':
		return nil
	case err == nil || data[0] != '{' && !isSyntactic(err):
		return models.NewError(models.CodeMalformed, "the request body must be a JSON object")
	default:
		return explainJSON(err)
	}
}

func isSyntactic(err error) bool {
	_, ok := errors.AsType[*jsontext.SyntacticError](err)
	return ok || errors.Is(err, io.ErrUnexpectedEOF)
}

// explainJSON says in plain words what is wrong with a body.
func explainJSON(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e.Err, jsontext.ErrDuplicateName) {
			return models.NewError(models.CodeMalformed, fmt.Sprintf("the field %s is there twice", fieldPath(e.JSONPointer)))
		}
		return models.WrapError(models.CodeMalformed, fmt.Sprintf("the request body is not valid JSON, at byte %d", e.ByteOffset), err)
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return models.WrapError(models.CodeMalformed, "the request body is not valid JSON", err)
	}
	var v models.Invalid
	if errors.Is(e.Err, json.ErrUnknownName) {
		v.Add(fieldPath(e.JSONPointer), "is not a field of this request")
	} else {
		v.Add(fieldPath(e.JSONPointer), "must be %s", typeInWords(e.GoType))
	}
	return v.Err()
}

var timeType = reflect.TypeFor[time.Time]()

// typeInWords names the JSON that a Go type is read from.
func typeInWords(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
		return "of another type"
	case t == timeType:
		return "an RFC 3339 time such as 2030-01-31T12:00:00Z"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "of another type"
	}
}

// fieldPath turns a JSON pointer into the form of field errors:
// /scopes/1/operation becomes scopes[1].operation. Names are cut at 64 bytes,
// since they are the sender's.
func fieldPath(p jsontext.Pointer) string {
	var b strings.Builder
	for name := range p.Tokens() {
		if _, err := strconv.ParseUint(name, 10, 31); err == nil && b.Len() > 0 {
			b.WriteString("[" + name + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(request.Truncate(models.MaskTokens(name), 64))
	}
	return b.String()
}
