package ui

import (
	"net/url"
	"slices"
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
		Intro: "With the link, " + u.Email + " can choose a new password once, within " + lengthInWords(validFor) + ". Their sessions end when they do. An earlier link stops working. " +
			"If somebody else may know the password, remove what they may have left behind: it goes at once, whether or not the link is used. " +
			"What you do not tick stays, and the old password works until the link is used.",
		Fields: []Field{
			{Name: "disconnect_identities", Label: "Disconnect all identities", Kind: CheckField, Hint: "Nobody signs in to the account at an identity provider until it is connected again. Ends the sessions, too."},
			{Name: "end_sessions", Label: "End all sessions", Kind: CheckField, Hint: "In browsers and programs, now and not only with the new password."},
			{Name: "withdraw_codes", Label: "Withdraw codes", Kind: CheckField, Hint: "Codes that sign a program in as them, and links that they made for others."},
			{Name: "revoke_tokens", Label: "Revoke all tokens", Kind: CheckField, Hint: "For good. Programs that use them stop."},
		},
	}
}

// ResetFields are the boxes of [NewReset].
var ResetFields = []string{"disconnect_identities", "end_sessions", "withdraw_codes", "revoke_tokens"}

// DecodeNewReset reads the form of [NewReset]. A box that is not in it removes nothing.
func DecodeNewReset(form url.Values) api.NewPasswordReset {
	on := func(name string) bool { return slices.Contains(form[name], "1") }
	return api.NewPasswordReset{
		DisconnectIdentities: on("disconnect_identities"), EndSessions: on("end_sessions"), WithdrawCodes: on("withdraw_codes"), RevokeTokens: on("revoke_tokens"),
	}
}

// ResetLink is the page that tells a reset link, once.
type ResetLink struct {
	User      models.User
	Code, URL string
	Expires   Moment
	// What was removed with its creation, and what works on.
	Removed, Stays models.WaysIn
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
