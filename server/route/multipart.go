package route

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

const (
	maxParts       = 1000     // parts of a multipart body
	maxPartHeaders = 16       // header lines of a part
	maxHeaderLine  = 4 << 10  // bytes of one of them
	windowSize     = 64 << 10 // bytes of a body held at a time
)

// form reads a multipart/form-data body (RFC 7578) written in the one way in
// which every client writes it: no preamble, CRLF line ends, no folded headers,
// nothing behind the closing delimiter. RFC 2046 allows more than that, and
// parsers differ on how much more: whether a bare LF ends a line, whether blanks
// may follow a delimiter, what becomes of text before the first one. So the
// boundary's text may stand nowhere but in a proper delimiter.
type form struct {
	r     *bufio.Reader
	dash  []byte // "--" and the boundary
	names *names
	at    int64 // bytes that were moved past
}

// readMultipart scans a whole form for the parts that may name the model.
func readMultipart(n *names, body io.Reader, contentType string) error {
	f := form{r: bufio.NewReaderSize(body, windowSize), names: n}
	if _, err := f.r.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return explainForm(err)
	}
	boundary, err := formBoundary(contentType)
	if err != nil {
		return err
	}
	f.dash = []byte("--" + boundary)
	if strings.ContainsFunc(boundary, func(r rune) bool { return !isTokenChar(r) }) {
		boundary = `"` + boundary + `"`
	}
	n.contentType = formType + "; boundary=" + boundary
	start, err := f.r.Peek(len(f.dash))
	if err != nil && !errors.Is(err, io.EOF) {
		return explainForm(err)
	}
	if !bytes.Equal(start, f.dash) {
		return ambiguous("the form does not begin with its boundary")
	}
	f.skip(len(f.dash))
	for parts := 0; ; parts++ {
		last, err := f.endOfDelimiter()
		if err != nil || last {
			return err
		}
		if parts == maxParts {
			return ambiguous("the form has more than %d parts", maxParts)
		}
		if err := f.part(); err != nil {
			return err
		}
	}
}

// formBoundary returns the boundary that a Content-Type names.
func formBoundary(contentType string) (string, error) {
	media, params, err := parseMediaValue(contentType)
	if err != nil {
		return "", err
	}
	if media != formType {
		return "", ambiguous("the route expects multipart/form-data")
	}
	if err := checkCharset(params); err != nil {
		return "", err
	}
	// RFC 2046 §5.1.1, without the blank that some readers strip.
	boundary := params["boundary"]
	if len(boundary) < 1 || len(boundary) > 70 ||
		strings.ContainsFunc(boundary, func(r rune) bool {
			return !isAlphanumeric(r) && !strings.ContainsRune("'()+_,-./:=?", r)
		}) {
		return "", ambiguous("the form has no proper boundary")
	}
	return boundary, nil
}

// endOfDelimiter reads what follows a boundary: a line end, or two hyphens and
// the end of the body.
func (f *form) endOfDelimiter() (last bool, err error) {
	next, err := f.r.Peek(2)
	if err != nil {
		return false, explainForm(err)
	}
	ending := string(next)
	f.skip(2)
	switch ending {
	case "\r\n":
		return false, nil
	case "--":
		rest, err := f.r.Peek(3) // a line end may follow
		if err != nil && !errors.Is(err, io.EOF) {
			return false, explainForm(err)
		}
		if tail := string(rest); tail != "" && tail != "\r\n" {
			return false, ambiguous("the form goes on behind its end")
		}
		return true, nil
	default:
		return false, ambiguous("the form has its boundary in a place where not all readers see it")
	}
}

// part reads one part and the boundary that ends it.
func (f *form) part() error {
	h, err := f.partHeader()
	if err != nil {
		return err
	}
	field, err := f.names.claims(h.name)
	if err != nil {
		return err
	}
	var value bytes.Buffer
	var keep *bytes.Buffer
	if field {
		if err := h.checkPlain(); err != nil {
			return err
		}
		keep = &value
	}
	start := f.at
	size, err := f.content(keep)
	if err != nil {
		return err
	}
	if h.length >= 0 && h.length != size {
		return ambiguous("a part of the form has a length other than it claims")
	}
	if !field {
		return nil
	}
	if f.names.spot != nil {
		if err := f.names.spot(h, value.String(), start, start+size); err != nil {
			return err
		}
	}
	return f.names.set(h.name, value.String())
}

// content reads a part's content and the boundary behind it, and copies a little
// more of it to keep than a model's name may have.
func (f *form) content(keep *bytes.Buffer) (size int64, err error) {
	for {
		window, err := f.r.Peek(windowSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, explainForm(err)
		}
		at := bytes.Index(window, f.dash)
		if at < 0 && err != nil {
			return 0, ambiguous("the form ends inside a part")
		}
		// Without a boundary in sight, hold back what may be the beginning of
		// one, and the line end before it.
		end := len(window) - len(f.dash) - 1
		if at >= 0 {
			end = at - 2
			if end < 0 || string(window[end:at]) != "\r\n" {
				return 0, ambiguous("the form has its boundary in a place where not all readers see it")
			}
		}
		if keep != nil {
			keep.Write(window[:min(end, max(0, maxModel+1-keep.Len()))])
		}
		size += int64(end)
		if at >= 0 {
			f.skip(at + len(f.dash))
			return size, nil
		}
		f.skip(end)
	}
}

// skip moves past n bytes that were peeked at.
func (f *form) skip(n int) {
	_, _ = f.r.Discard(n) // cannot fail: they are in the buffer
	f.at += int64(n)
}

// partHeader holds the header of a part.
type partHeader struct {
	name     string
	file     bool
	encoding string // Content-Transfer-Encoding, in lower case
	media    string // Content-Type without its parameters
	charset  error  // what is wrong with its charset
	length   int64  // Content-Length, or -1
	other    bool   // there were more headers than these
}

// checkPlain refuses a header that makes something other than a plain field of
// the part, to some reader at least.
func (h partHeader) checkPlain() error {
	switch {
	case h.file:
		return ambiguous("%q is sent as a file", h.name)
	case h.encoding != "":
		return ambiguous("%q has a transfer encoding", h.name)
	case h.media != "" && h.media != "text/plain":
		return ambiguous("%q has a content type other than text/plain", h.name)
	case h.other:
		return ambiguous("%q has headers that do not belong there", h.name)
	}
	return h.charset
}

// partHeader reads the header lines of a part and the empty line behind them.
func (f *form) partHeader() (partHeader, error) {
	h := partHeader{length: -1}
	seen := map[string]bool{}
	for {
		line, err := f.line()
		if err != nil {
			return h, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenChar(r) }) {
			return h, ambiguous("a part of the form has a line that is not a header")
		}
		name = strings.ToLower(name)
		if seen[name] || len(seen) == maxPartHeaders {
			return h, ambiguous("a part of the form has too many headers, or one of them twice")
		}
		seen[name] = true
		if err := h.add(name, strings.Trim(value, " \t")); err != nil {
			return h, err
		}
	}
	if h.name == "" {
		return h, ambiguous("a part of the form has no name")
	}
	return h, nil
}

func (h *partHeader) add(name, value string) error {
	switch name {
	case "content-disposition":
		return h.setDisposition(value)
	case "content-type":
		media, params, err := parseMediaValue(value)
		if err != nil {
			return err
		}
		h.media, h.charset = media, checkCharset(params)
	case "content-transfer-encoding":
		h.encoding = strings.ToLower(value)
		switch h.encoding {
		case "7bit", "8bit", "binary": // which change nothing
		default:
			return ambiguous("a part of the form has a transfer encoding")
		}
	case "content-length":
		length, err := strconv.ParseUint(value, 10, 62)
		if err != nil {
			return ambiguous("a part of the form has a length that is not a number")
		}
		h.length = int64(length)
	default:
		h.other = true
	}
	return nil
}

func (h *partHeader) setDisposition(value string) error {
	disposition, params, err := parseMediaValue(value)
	if err != nil {
		return err
	}
	_, file := params["filename"]
	_, extended := params["filename*"]
	h.name, h.file = params["name"], file || extended
	switch {
	case disposition != "form-data":
		return ambiguous("a part of the form is not form data")
	case strings.Contains(h.name, "%"): // browsers write quotes as %22
		return ambiguous("a part of the form has a name that can be read in two ways")
	case strings.EqualFold(h.name, "_charset_"): // HTML: the charset of the other parts
		return ambiguous("the form chooses its own character set")
	}
	return nil
}

// line reads one header line without its CRLF.
func (f *form) line() (string, error) {
	window, err := f.r.Peek(maxHeaderLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", explainForm(err)
	}
	end := bytes.IndexFunc(window, func(r rune) bool { return r != '\t' && unicode.IsControl(r) })
	if end < 0 || !bytes.HasPrefix(window[end:], []byte("\r\n")) {
		return "", ambiguous("a part of the form has a header line that does not end, or not properly")
	}
	line := string(window[:end])
	if bytes.Contains(window[:end], f.dash) {
		return "", ambiguous("the form has its boundary in a place where not all readers see it")
	}
	f.skip(end + 2)
	return line, nil
}

func explainForm(err error) error {
	if errors.Is(err, io.EOF) {
		return ambiguous("the form ends too early")
	}
	return fmt.Errorf("read the body: %w", err)
}
