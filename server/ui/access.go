package ui

import "patrol/models"

// Access is the page with what would let somebody in without a password: their sessions, and
// links and codes that nobody has used.
type Access struct {
	User     models.User
	Self     bool // the viewer's own account
	Sessions int
	Codes    []CodeWaiting
}

// CodeWaiting is a code that nobody has used.
type CodeWaiting struct {
	Reset   bool   // it lets its holder choose a new password; else it signs a program in
	By      string // "" for an operator
	Expires Moment
}

// Title implements [Page].
func (a Access) Title() string  { return "What lets " + a.User.Name + " in" }
func (Access) template() string { return "access" }
func (Access) section() section { return adminUsers }

// Back is the page of the account.
func (a Access) Back() string { return userURL(a.User.ID) }
