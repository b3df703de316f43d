package ui

import (
	"net/url"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// ResetPath is the path of the page that takes a reset code. Links to it carry the
// code as their fragment.
const ResetPath = request.ResetPath

// NewReset asks before a reset link is made for an account.
func NewReset(u models.User, validFor time.Duration) Form {
	return Form{
		Heading: "Make a reset link for " + u.Name + "?", Action: userURL(u.ID) + "/reset", Submit: "Make the link", Cancel: userURL(u.ID), Part: adminUsers,
		Intro: "With the link, " + u.Email + " can choose a new password once, within " + lengthInWords(validFor) + ". Their sessions end when they do; until then nothing changes. An earlier link stops working.",
	}
}

// ResetLink is the page that tells a reset link, once.
type ResetLink struct {
	User      models.User
	Code, URL string
	Expires   Moment
}

// Title implements [Page].
func (ResetLink) Title() string     { return "Reset link" }
func (ResetLink) template() string  { return "reset-link" }
func (ResetLink) section() section  { return adminUsers }
func (ResetLink) holdsSecret() bool { return true }

// Page is the address of the page that takes the code.
func (r ResetLink) Page() string {
	page, _, _ := strings.Cut(r.URL, "#")
	return page
}

// Relative reports whether the link lacks the address of this server, which is not set.
func (r ResetLink) Relative() bool { return strings.HasPrefix(r.URL, "/") }

// Back is the page of the account.
func (r ResetLink) Back() string { return userURL(r.User.ID) }

// Reset is the page that takes a reset code and a new password. A script fills the
// code in from the address's fragment.
func Reset(code string, p Problems) Form {
	return Form{
		Heading: "Choose a new password", Action: ResetPath, Submit: "Set the password", Narrow: true, Problems: p, Script: "reset.js", Secret: code != "",
		Intro: "All your sessions end. Your tokens stay as they are.",
		Fields: []Field{
			{
				Name: "code", Label: "Reset code", Kind: TextField, Value: code, Required: true, Autocomplete: "one-time-code", Mono: true, Focus: !p.Any(),
				Hint: "From your administrator: four groups of letters and digits, the part of the link after #.",
			},
			{Name: "password", Label: "New password", Kind: PasswordField, Required: true, Autocomplete: "new-password", Hint: lengthHint},
			{Name: "repeat", Label: "New password again", Kind: PasswordField, Required: true, Autocomplete: "new-password"},
		},
		More: Link{Label: "Back to the sign-in", URL: "/login"},
	}
}

// DecodeReset reads the form, and notes what it itself can tell.
func DecodeReset(form url.Values) (in api.ResetPassword, p Problems) {
	in = api.ResetPassword{Code: form.Get("code"), Password: form.Get("password")}
	if in.Code == "" {
		p.Fields = append(p.Fields, Problem{Field: "code", Text: "Reset code is required."})
	}
	checkRepeat(in.Password, form.Get("repeat"), &p)
	return in, p
}

// ResetDone is the page after a password was reset.
func ResetDone(email string) Message {
	return Message{
		Heading: "Your password is set", Lines: []string{"Sign in as " + email + " with it. All sessions that were there have ended."},
		Link: "/login", Label: "Sign in",
	}
}
