package ui

// CodePath is the path of the page that signs the command line in.
const CodePath = "/profile/sessions/code"

// AskCode is the page that offers a code for the command line.
type AskCode struct {
	AskPassword bool // the sign-in is too old
	Problems    Problems
}

// Title implements [Page].
func (AskCode) Title() string    { return "Sign in the command line" }
func (AskCode) template() string { return "ask-code" }
func (AskCode) section() section { return sessionsPart }
func (a AskCode) failed() bool   { return a.Problems.Any() }

// ShowCode is the page that tells the code, once.
type ShowCode struct {
	Code    string
	Expires Moment
}

// Title implements [Page].
func (ShowCode) Title() string     { return "Your code" }
func (ShowCode) template() string  { return "show-code" }
func (ShowCode) section() section  { return sessionsPart }
func (ShowCode) holdsSecret() bool { return true }
