package ui

import (
	"net/url"

	"patrol/models"
)

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
	UserID, Email string // whose account it lets into
	Does          string // what it is for
	By            string // "" for an operator
	Expires       Moment
}

// CodeDoes describes the effect of a code in words, with the address that it confirms.
func CodeDoes(purpose, email string) string {
	switch purpose {
	case "reset_password":
		return "A link to choose a new password"
	case "change_email":
		return "A link to confirm the address " + email
	}
	return "A code that signs a program in"
}

// Title implements [Page].
func (a Access) Title() string  { return "What lets " + a.User.Name + " in" }
func (Access) template() string { return "access" }
func (Access) section() section { return adminUsers }

// Back is the page of the account.
func (a Access) Back() string { return userURL(a.User.ID) }

// AllCodes is the page with the links and codes of all users that nobody has used.
func AllCodes(codes []CodeWaiting, next string, first bool) Table {
	t := Table{
		Heading: "Links and codes", Intro: "Whoever has one gets into the account, but for links that confirm an address: those take its owner. Nobody has used these yet. They are withdrawn on the page of the user.",
		Part: adminUsers, Path: "/admin/codes", Crumb: Link{Label: "Users", URL: "/admin/users"},
		Columns: []string{"Account", "What it does", "Made by", "Good until"}, First: first, Empty: "There are none that could still be used.",
	}
	if next != "" {
		t.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	for _, code := range codes {
		by := code.By
		if by == "" {
			by = "an operator"
		}
		t.Rows = append(t.Rows, []Cell{{Text: code.Email, URL: userURL(code.UserID) + "/access"}, {Text: code.Does}, {Text: by}, {Date: &code.Expires}})
	}
	return t
}
