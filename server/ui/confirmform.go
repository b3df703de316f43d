package ui

import (
	"net/url"
	"slices"

	"patrol/server/request"
)

// ConfirmPath is the path of the page after a sign-in was made recent at the identity
// provider.
const ConfirmPath = "/profile/confirm"

// ConfirmAgain is the page that sends a form again, with the password that makes the
// sign-in recent.
type ConfirmAgain struct {
	Action   string // where the form is sent
	Cancel   string // the page of the form
	Sent     []SentField
	Secrets  []Field // what was sent and no page repeats
	Problems Problems
}

// SentField is a field as it was sent.
type SentField struct{ Name, Value string }

// Title implements [Page].
func (ConfirmAgain) Title() string    { return "Confirm that it is you" }
func (ConfirmAgain) template() string { return "confirm-again" }
func (ConfirmAgain) section() section { return noSection }
func (c ConfirmAgain) failed() bool   { return c.Problems.Any() }

// secretFields names the fields that no page repeats, each with its label on the page that
// asks for it again.
var secretFields = map[string]string{"password": "Password of the account, again", "token": "Token, again", "code": "Code, again"}

// ConfirmForm keeps a form that was sent to action, to be sent again. page is the page of
// the form.
func ConfirmForm(action, page string, form url.Values) ConfirmAgain {
	c := ConfirmAgain{Action: request.LocalPath(action), Cancel: page}
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range form[name] {
			label, secret := secretFields[name]
			switch {
			case name == confirmField:
			case secret && value != "":
				c.Secrets = append(c.Secrets, Field{Name: name, Label: label, Kind: PasswordField, Required: true, Autocomplete: "off"})
			default:
				c.Sent = append(c.Sent, SentField{name, value})
			}
		}
	}
	return c
}

// confirmField is [endpoint.ConfirmField], which pages do not import.
const confirmField = "confirm_password"

// Confirmed is the page on which somebody ends up who made their sign-in recent.
func Confirmed(fresh bool) Message {
	if !fresh {
		return Message{Heading: "Your sign-in is not recent", Lines: []string{"Go back to the window with your form and try again."}, Link: "/", Label: "To the start page"}
	}
	return Message{Heading: "You signed in again", Lines: []string{"Close this window, and send the form in the other one."}, Link: "/", Label: "To the start page"}
}

// Password is the field for the viewer's own password.
func (c ConfirmAgain) Password() Field {
	return Field{Name: confirmField, Label: "Your password", Kind: PasswordField, Required: true, Autocomplete: "current-password", Focus: !c.Problems.Any()}
}
