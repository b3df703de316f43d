package ui

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Form is a page with one form of plain fields.
type Form struct {
	Heading string
	Intro   string
	Fields  []Field
	Action  string // where the form is sent
	Submit  string // label of the button
	Danger  bool   // the button ends something
	Cancel  string // where Cancel leads, "" for none
	// Hidden fields go along.
	Hidden   map[string]string
	Problems Problems
	Part     section
	Aside    string // a note under the form
	Instead  Link   // another way than the form, above it
	More     Link   // where else to go, under the form
	Also     Link   // and where else
	Next     Link   // and where else
	Links    []Link // and further still
	Narrow   bool   // stands alone, as the sign-in does
	Script   string // asset with a script of this page alone, "" for none
	Secret   bool   // a field holds what its sender alone may know
}

// Title implements [Page].
func (f Form) Title() string     { return f.Heading }
func (Form) template() string    { return "form" }
func (f Form) section() section  { return f.Part }
func (f Form) failed() bool      { return f.Problems.Any() }
func (f Form) holdsSecret() bool { return f.Secret }

// Confirm is a page that asks before something ends.
type Confirm struct {
	Heading  string
	Lines    []string
	Token    *Token // what it is about, if a token
	Action   string
	Hidden   map[string]string
	Submit   string
	Cancel   string
	Problems Problems
	// Fields are for what has to be typed to confirm.
	Fields []Field
	Part   section
}

// Title implements [Page].
func (c Confirm) Title() string    { return c.Heading }
func (Confirm) template() string   { return "confirm" }
func (c Confirm) section() section { return c.Part }
func (c Confirm) failed() bool     { return c.Problems.Any() }

// Message is a page that says one thing.
type Message struct {
	Heading string
	Lines   []string
	Link    string
	Label   string
	// ShowID asks for the request's id to be shown.
	ShowID bool
	Part   section
}

// Title implements [Page].
func (m Message) Title() string    { return m.Heading }
func (Message) template() string   { return "message" }
func (m Message) section() section { return m.Part }

// Long reports whether a word of the text, such as an address, may have to be broken.
func (c Cell) Long() bool {
	return slices.ContainsFunc(strings.Fields(c.Text), func(word string) bool { return utf8.RuneCountInString(word) > longestWord })
}

// longestWord bounds the characters of a word in a table that stays in one piece.
const longestWord = 15
