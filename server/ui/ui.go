package ui

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed templates
var templateFiles embed.FS

// UI renders pages. It is safe for concurrent use.
type UI struct {
	pages  map[string]*template.Template // by name, each with the layout and the parts
	assets *assets

	policy, fetching string // of the content of pages, and of those whose script asks the server
}

// New parses the embedded templates. It fails only on a defect of theirs.
func New() (*UI, error) {
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	u := &UI{pages: map[string]*template.Template{}, assets: a}
	u.policy, u.fetching = u.contentPolicy(false), u.contentPolicy(true)
	base, err := template.New("").Funcs(u.funcs()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/scopes.html", "templates/activity.html")
	if err != nil {
		return nil, fmt.Errorf("parse the layout: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/pages/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		clone, err := base.Clone()
		if err == nil {
			_, err = clone.ParseFS(templateFiles, name)
		}
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		u.pages[strings.TrimSuffix(path.Base(name), ".html")] = clone
	}
	return u, nil
}

func (u *UI) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":   u.assets.url,
		"digest":  u.assets.digest,
		"fieldID": fieldID,
		"plural":  plural,
		"upper":   upperFirst,

		"admitURL": AdmitURL,

		"field":   func(f Field, p Problems) fieldView { return fieldView{Field: f, Problem: p.For(f.Name)} },
		"row":     func(form ScopesForm, row ScopeRow) rowView { return form.rowView(row) },
		"confirm": func(v view, p Problems) confirmation { return confirmation{v.Frame, p.For("password")} },
	}
}

// Page is one page: its title and what its template shows.
type Page interface {
	// Title names the page, for the window and the h1.
	Title() string
	// template names the file under templates/pages.
	template() string
}

// Frame is the frame of a page.
type Frame struct {
	Viewer *Viewer // nil: nobody is signed in
	Now    time.Time
	// Notice says what the request before this one did, "" for nothing.
	Notice string
	// Sent is the page of the form that this page answers, "" if it answers none.
	Sent string
	// RequestID is shown where something went wrong, so that it can be quoted.
	RequestID string
}

// confirmation is the way in which a viewer with an old sign-in renews it: at the
// provider, if they signed in there, or by the password.
type confirmation struct {
	Frame
	Problem string
}

// Provider is the name of the provider for the confirmation, "" for here.
func (c confirmation) Provider() string {
	if c.Viewer == nil {
		return ""
	}
	return c.Viewer.Provider
}

// Viewer is the signed-in user.
type Viewer struct {
	Name, Email string
	Admin       bool // of the platform
	Domains     bool // administers some domain
	Policy      bool // of the policy team
	// Provider names the identity provider where they signed in, and confirm
	// that it is still them; "" if they have a password for that.
	Provider string
}

// view is the data of a template.
type view struct {
	Frame
	Page Page
	Nav  []navItem
	Sub  []navItem
}

// Title is the text of the window's title. One who was refused hears so first.
func (v view) Title() string {
	if p, ok := v.Page.(interface{ failed() bool }); ok && p.failed() {
		return "Error: " + v.Page.Title()
	}
	return v.Page.Title()
}

// contentPolicy permits what the pages are made of and nothing else: of scripts our own alone,
// by their digests.
func (u *UI) contentPolicy(fetches bool) string {
	policy := "default-src 'none'; style-src 'self'; script-src " + u.assets.scripts() + "; img-src 'self' data:; " +
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	if fetches {
		policy += "; connect-src 'self'"
	}
	return policy
}

// Write answers r with a page. Pages are never stored by browsers or proxies:
// they hold what only their viewer may see, and one of them a secret. An error
// means that nothing was written.
func (u *UI) Write(w http.ResponseWriter, r *http.Request, status int, frame Frame, page Page) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		clear(buf.Bytes()) // it may hold a token
		buffers.Put(buf)
	}()
	buf.Reset()
	if err := u.Render(buf, frame, page); err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	policy := u.policy
	if p, ok := page.(interface{ fetches() bool }); ok && p.fetches() {
		policy = u.fetching
	}
	header.Set("Content-Security-Policy", policy)
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "same-origin")
	header.Add("Vary", "Accept-Encoding")
	body := buf.Bytes()
	secret, ok := page.(interface{ holdsSecret() bool })
	if !(ok && secret.holdsSecret()) && acceptsGzip(r.Header) { // compression tells of a secret by its length
		packed := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(packed)
		packed.Reset()
		compress(packed, body)
		header.Set("Content-Encoding", "gzip")
		body = packed.Bytes()
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone if this fails
	return nil
}

// Render writes a page as HTML.
func (u *UI) Render(w io.Writer, frame Frame, page Page) error {
	t, ok := u.pages[page.template()]
	if !ok {
		return fmt.Errorf("there is no template %q", page.template())
	}
	if err := t.ExecuteTemplate(w, "layout", newView(frame, page)); err != nil {
		return fmt.Errorf("render the page %q: %w", page.template(), err)
	}
	return nil
}

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	packers = sync.Pool{New: func() any {
		z, err := gzip.NewWriterLevel(io.Discard, gzip.DefaultCompression)
		if err != nil {
			panic(err) // the level is a valid one
		}
		return z
	}}
)

func compress(dst *bytes.Buffer, body []byte) {
	z := packers.Get().(*gzip.Writer)
	defer packers.Put(z)
	z.Reset(dst)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
}

// acceptsGzip reports whether the client takes gzip (RFC 9110 §12.5.3), read as
// browsers write it.
func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding == "gzip" {
			return strings.Trim(weight, " q=0.") != "" || !strings.Contains(weight, "q=0")
		}
	}
	return false
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
