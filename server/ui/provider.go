package ui

import "net/url"

// The pages about signing in at an identity provider.

// Paths of these pages.
const (
	ProviderPath = "/login/oidc"       // leads to the provider
	IdentityPath = "/profile/identity" // one's own connection with it
)

// ProviderLink leads to the provider to sign in, and then to next, "" for the start.
func ProviderLink(name, next string) Link {
	link := Link{Label: "Sign in with " + name, URL: ProviderPath}
	if next != "" {
		link.URL += "?" + url.Values{"next": {next}}.Encode()
	}
	return link
}

// Continue is the page between here and the provider. A form cannot be answered by
// leading elsewhere: the content policy keeps what forms send on this site.
type Continue struct {
	Name string // of the provider
	URL  string // at the provider
	Why  string
}

// Title implements [Page].
func (c Continue) Title() string   { return "Continue at " + c.Name }
func (Continue) template() string  { return "continue" }
func (Continue) section() section  { return noSection }
func (Continue) holdsSecret() bool { return true }

// The reasons to lead somebody to the provider.
const (
	WhyConfirm = "You signed in a while ago, and handing out access needs a fresh sign-in. What you typed is kept; send it again when you are back."
	WhyConnect = "Sign in there to connect your account. You are led back here."
)

// Identity is the page about one's own connection with the provider.
type Identity struct {
	Name        string
	Since       *Moment // nil: not connected
	SignInBy    *Moment // when the account is shut out without a further sign-in there; nil: never
	HasPassword bool
	AskPassword bool // the sign-in is too old
	Problems    Problems
}

// Title implements [Page].
func (i Identity) Title() string  { return "Sign-in with " + i.Name }
func (Identity) template() string { return "identity" }
func (Identity) section() section { return password }
func (i Identity) failed() bool   { return i.Problems.Any() }

// NoPassword is the password page of an account without one.
func NoPassword(name string) Message {
	m := Message{
		Heading: "Your account has no password",
		Lines:   []string{"If you need one, ask an administrator for a reset link."},
	}
	if name != "" {
		m.Lines = append([]string{"You sign in with " + name + ", and change its password there."}, m.Lines...)
		m.Link, m.Label = IdentityPath, "About your sign-in"
	}
	return m
}

// SignedOut is the page after signing out here of somebody who may still be signed
// in at the provider.
func SignedOut(name, logout string) Message {
	return Message{
		Heading: "You are signed out", Lines: []string{"You may still be signed in at " + name + ": whoever uses this browser could get in again."},
		Link: logout, Label: "Sign out of " + name + ", too",
	}
}
