package ui

import (
	"net/url"
	"strings"

	"patrol/api"
	"patrol/server/request"
)

// SignIn is the sign-in page. next is where to go afterwards, notice why one is
// asked.
func SignIn(in api.SignIn, next, notice string, p Problems) Form {
	f := Form{
		Heading: "Sign in", Intro: notice, Action: "/login", Submit: "Sign in", Narrow: true, Problems: p,
		Hidden: map[string]string{},
		Fields: []Field{
			{Name: "email", Label: "Email address", Kind: EmailField, Value: in.Email, Required: true, Autocomplete: "username", Focus: in.Email == ""},
			{Name: "password", Label: "Password", Kind: PasswordField, Required: true, Autocomplete: "current-password", Focus: in.Email != ""},
		},
		Aside: "If you forgot your password, ask an administrator for a reset link.",
		More:  Link{Label: "I have a reset code", URL: ResetPath},
	}
	if next != "" {
		f.Hidden["next"] = next
	}
	return f
}

// DecodeSignIn reads the sign-in form. next is "" unless it is a path here.
func DecodeSignIn(form url.Values) (in api.SignIn, next string) {
	return api.SignIn{Email: strings.TrimSpace(form.Get("email")), Password: form.Get("password")}, request.LocalPath(form.Get("next"))
}

// Pasted takes off what copying adds to a token: spaces, quotes, the name of the
// scheme.
func Pasted(token string) string {
	token = strings.Trim(strings.TrimSpace(token), `"'`)
	return strings.TrimSpace(strings.TrimPrefix(token, "Bearer "))
}

// NewPassword is the change of a password as a form sends it.
type NewPassword struct{ Current, Password, Repeat string }

// DecodeNewPassword reads the form.
func DecodeNewPassword(form url.Values) NewPassword {
	return NewPassword{Current: form.Get("current"), Password: form.Get("password"), Repeat: form.Get("repeat")}
}

// Check notes what the form itself can tell.
func (n NewPassword) Check(p *Problems) {
	if n.Current == "" {
		p.Add("current", "is required")
	}
	checkRepeat(n.Password, n.Repeat, p)
}

func checkRepeat(password, repeat string, p *Problems) {
	switch {
	case password == "":
		p.Add("password", "is required")
	case repeat != password:
		p.Add("repeat", "is not the same as the new password")
	}
}

// lengthHint says what a new password takes.
const lengthHint = "At least 12 characters, and none of the passwords that many people use. A few unrelated words are easier to keep than symbols."

// ChangePassword is the page that changes one's password.
func ChangePassword(p Problems) Form {
	return Form{
		Heading: "Change your password", Action: "/profile/password", Submit: "Change password", Part: password, Problems: p,
		Intro: "All your other sessions end. Your tokens stay as they are.",
		Fields: []Field{
			{Name: "current", Label: "Current password", Kind: PasswordField, Required: true, Autocomplete: "current-password"},
			{
				Name: "password", Label: "New password", Kind: PasswordField, Required: true, Autocomplete: "new-password",
				Hint: lengthHint,
			},
			{Name: "repeat", Label: "New password again", Kind: PasswordField, Required: true, Autocomplete: "new-password"},
		},
	}
}

// Session is one sign-in as its owner sees it.
type Session struct {
	ID        string
	Current   bool
	Program   bool // the CLI or the like, not a browser
	SignedIn  Moment
	Seen      Moment
	Ends      Moment
	IP, Agent string // where the sign-in came from, "" if that is not known
}

// Sessions is the page with one's sign-ins.
type Sessions struct {
	Sessions []Session
	Codes    []CodeWaiting
}

// Title implements [Page].
func (Sessions) Title() string    { return "Sessions" }
func (Sessions) template() string { return "sessions" }
func (Sessions) section() section { return sessionsPart }
func (Sessions) top() bool        { return true }

// Others reports whether there are sessions beside this one.
func (s Sessions) Others() bool { return len(s.Sessions) > 1 }

// SetupPage is the page of a first start, which makes the first admin.
func SetupPage(in api.Setup, p Problems, expired bool) Page {
	if expired {
		return Message{
			Heading: "The setup code has expired",
			Lines: []string{
				"Restart Patrol for a new one, and open this page again.",
				"Or create the first admin on the server's command line: patrol user create --admin",
			},
		}
	}
	return Form{
		Heading: "Set up Patrol", Action: "/setup", Submit: "Create the first admin", Narrow: true, Problems: p,
		Intro: "There are no users yet. The code is in a file on the server, which the log names; it proves that you may run this installation.",
		Fields: []Field{
			{Name: "code", Label: "Setup code", Kind: TextField, Required: true, Autocomplete: "one-time-code", Mono: true, Focus: true},
			{Name: "email", Label: "Your email address", Kind: EmailField, Value: in.Email, Required: true, Autocomplete: "username"},
			{Name: "name", Label: "Your name", Kind: TextField, Value: in.Name, Required: true, Autocomplete: "name", MaxLength: 100},
			{Name: "password", Label: "Password", Kind: PasswordField, Required: true, Autocomplete: "new-password", Hint: "At least 12 characters."},
		},
	}
}

// SetupDone is the page after the first admin was made.
func SetupDone(email string) Page {
	return Message{
		Heading: "Patrol is set up",
		Lines:   []string{"The admin account " + email + " is ready. The setup code is used up, and this page is gone."},
		Link:    "/login", Label: "Sign in",
	}
}
