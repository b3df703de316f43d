package ui

import (
	"time"

	"patrol/models"
	"patrol/server/request"
)

// EmailPath is the path of the page that takes the code for another address. Links to it carry
// the code as their fragment.
const EmailPath = request.EmailPath

// NewEmail asks for another address of an account.
func NewEmail(u models.User, email string, validFor time.Duration, p Problems) Form {
	return Form{
		Heading: "Change the address of " + u.Name, Action: userURL(u.ID) + "/email", Submit: "Make the link", Cancel: userURL(u.ID), Part: adminUsers, Problems: p,
		Intro: "It stays " + u.Email + " until its owner, signed in, opens the link, within " + lengthInWords(validFor) + ". Send the link to the new address: that is how it is proved. " +
			"Nobody else gets the old address afterwards.",
		Fields: []Field{{Name: "email", Label: "New email address", Kind: EmailField, Value: email, Required: true, Autocomplete: "off", Focus: !p.Any()}},
	}
}

// EmailLink is the page that tells a link which confirms another address, once.
type EmailLink struct {
	ResetLink
	Email string
}

// Title implements [Page].
func (EmailLink) Title() string    { return "Link for another address" }
func (EmailLink) template() string { return "email-link" }

// ConfirmEmail is the page that takes the code for another address. A script fills the code in
// from the address's fragment.
func ConfirmEmail(now, code string, p Problems) Form {
	return Form{
		Heading: "Confirm your new address", Action: EmailPath, Submit: "Change my address", Part: password, Problems: p, Script: "reset.js", Secret: code != "",
		Intro: "You sign in with the new address then, and not with " + now + " any more. All your other sessions end. Your tokens stay as they are.",
		Fields: []Field{{
			Name: "code", Label: "Code", Kind: TextField, Value: code, Required: true, Autocomplete: "one-time-code", Mono: true, Focus: !p.Any(),
			Hint: "An administrator sent it to the new address: four groups of letters and digits, the part of the link after #. If you had to sign in first, open the link once more.",
		}},
		Cancel: "/profile/password",
	}
}
