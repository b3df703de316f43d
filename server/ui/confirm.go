package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// Edit is the page that renames and describes a token, and says where it may be used from.
// The fields hold the values of in.
func Edit(t Token, in api.PATPatch, p Problems) Form {
	return Form{
		Heading: "Edit " + t.Name, Action: t.Link() + "/edit", Submit: "Save", Cancel: t.Link(), Part: tokens, Problems: p,
		Fields: []Field{
			{Name: "name", Label: "Name", Kind: TextField, Value: *in.Name, Required: true, MaxLength: 100, Autocomplete: "off", Focus: !p.Any()},
			{Name: "description", Label: "Description", Kind: AreaField, Value: *in.Description, MaxLength: 500},
			allowedIPsField(strings.Join(*in.AllowedIPs, "\n")),
		},
	}
}

// allowedIPsName is the field with the addresses that a token may be used from, one to a line.
const allowedIPsName = "allowed_ips"

func allowedIPsField(value string) Field {
	return Field{
		Name: allowedIPsName, Label: "Addresses it works from", Kind: AreaField, Value: value, MaxLength: 20_000,
		Hint: "One address or range to a line, such as 203.0.113.0/24 or 2001:db8::/32. Empty: it works from everywhere. More addresses than now need a recent sign-in.",
	}
}

// decodeAllowedIPs reads that field.
func decodeAllowedIPs(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == ',' })
}

// DecodeEdit reads the form, or a link that fills it in. What neither holds is as
// the token has it.
func DecodeEdit(form url.Values, t Token) api.PATPatch {
	name, description := t.Name, t.Description
	if form.Has("name") {
		name = strings.TrimSpace(form.Get("name"))
	}
	if form.Has("description") {
		description = text(form.Get("description"))
	}
	allowed := t.AllowedIPs
	if form.Has(allowedIPsName) {
		allowed = decodeAllowedIPs(form.Get(allowedIPsName))
	}
	return api.PATPatch{Name: &name, Description: &description, AllowedIPs: &allowed}
}

// Revoke asks before a token ends.
func Revoke(t Token) Confirm {
	return Confirm{
		Heading: "Revoke " + t.Name + "?",
		Lines:   []string{"Every request with it is refused from now on. This cannot be undone."},
		Token:   &t, Action: t.Link() + "/revoke", Submit: "Revoke " + t.Name, Cancel: t.Link(), Part: tokens,
	}
}

// Delete asks before the record of a dead token goes.
func Delete(t Token) Confirm {
	return Confirm{
		Heading: "Delete " + t.Name + "?",
		Lines:   []string{"The token has ended already. This removes it from your list; the audit log keeps what happened with it."},
		Token:   &t, Action: t.Link() + "/delete", Submit: "Delete " + t.Name, Cancel: t.Link(), Part: tokens,
	}
}

// RevokeAll asks before all of a user's tokens end.
func RevokeAll(alive int) Confirm {
	return Confirm{
		Heading: "Revoke all your tokens?",
		Lines: []string{fmt.Sprintf("You have %s alive. Every request with one of them is refused from now on. This cannot be undone.",
			plural(alive, "token", "tokens"))},
		Hidden: map[string]string{"all": "true"},
		Action: "/profile/pats/revoke-all", Submit: "Revoke " + plural(alive, "token", "tokens"), Cancel: "/profile/pats", Part: tokens,
	}
}

// Revoked says how many tokens ended.
func Revoked(n int) string {
	if n == 1 {
		return "1 token is revoked."
	}
	return fmt.Sprintf("%d tokens are revoked.", n)
}

// RemoveScope asks before a token loses a scope.
func RemoveScope(t Token, s ScopeMeaning) Confirm {
	return Confirm{
		Heading: "Remove a scope from " + t.Name + "?",
		Lines:   []string{"The token can then no longer " + s.Meaning + "."},
		Action:  t.Link() + "/scopes/" + url.PathEscape(s.ID) + "/remove", Submit: "Remove the scope", Cancel: t.Link(), Part: tokens,
	}
}

// Failure is the page for what cannot be shown. message is the core's, "" for a
// failure that is none of the user's business.
func Failure(status int, message string) Message {
	m := Message{Link: "/", Label: "To the start page"}
	switch {
	case status == http.StatusNotFound:
		m.Heading = "There is nothing here"
	case status == http.StatusForbidden:
		m.Heading = "This is not permitted"
	case status == http.StatusServiceUnavailable:
		m.Heading, m.ShowID = "This does not work at the moment", true
		m.Lines = []string{"A part of Patrol that this needs does not answer. Try again shortly."}
	case status >= http.StatusInternalServerError:
		m.Heading, m.ShowID = "Something went wrong", true
		m.Lines = []string{"This is a defect of Patrol. Its log has the cause under this request’s id."}
	default:
		m.Heading = "That did not work"
	}
	if message != "" {
		m.Lines = []string{sentence("", message)}
	}
	return m
}

// NotAPage is the page at an address that forms are sent to and that has no page. form is the
// page of the form, "" if there is none.
func NotAPage(form string) Message {
	m := Message{Heading: "There is no page here", Lines: []string{"Forms are sent to this address."}, Link: form, Label: "To the page with the form"}
	if form == "" {
		m.Link, m.Label = "/", "To the start page"
	}
	return m
}

// NoticeEnded says why somebody who was signed in is asked to do so again.
const NoticeEnded = "Your session has ended. Sign in again to go on; what you typed is kept."

// Resume is the address of the page with a form at path, filled in as it was
// sent. It holds nothing secret; the fields that do are left out.
func Resume(path string, form url.Values, limits models.Limits) string {
	choices := Choices{limits: limits}
	path = request.LocalPath(path)
	token := Token{}
	if rest, ok := strings.CutPrefix(path, "/profile/pats/"); ok {
		token.ID, _, _ = strings.Cut(rest, "/")
	}
	switch {
	case path == "/profile/pats/new":
		return DecodeCreate(form, choices, epoch).Link()
	case token.ID != "" && path == token.Link()+"/rotate":
		return DecodeRotate(form, token, limits, epoch).Link()
	case token.ID != "" && path == token.Link()+"/scopes":
		return DecodeWiden(form, token, choices).Link()
	case token.ID != "" && path == token.Link()+"/narrow":
		return token.Link()
	case token.ID != "" && path == token.Link()+"/edit":
		in := DecodeEdit(form, token)
		return path + "?" + url.Values{"name": {*in.Name}, "description": {*in.Description}, allowedIPsName: {strings.Join(*in.AllowedIPs, "\n")}}.Encode()
	case path == AnyPurgePath:
		return PurgeURL(form.Get("user"))
	case strings.HasPrefix(path, "/admin/pats/") && path != "/admin/pats/revoke":
		return strings.TrimSuffix(path, "/revoke")
	case strings.HasPrefix(path, "/admin/domains/"):
		for _, action := range []string{"/members", "/limits", "/revoke", "/approve", "/withdraw", "/withdrawal", "/admit"} {
			if strings.Count(path, "/") > 3 { // and not a domain of that name
				path = strings.TrimSuffix(path, action)
			}
		}
		return path
	case strings.HasPrefix(path, "/admin/users/") && strings.Contains(path, "/access/"):
		return path[:strings.LastIndexByte(path, '/')]
	case path == "/policy/resume":
		return "/policy"
	case path == "/policy/shadow/promote":
		return PromoteURL(form.Get("revision"))
	case path == "/policy/history/rollback":
		return RollBackURL(form.Get("revision"))
	case path == "/profile/sessions/end", path == "/profile/sessions/codes":
		return "/profile/sessions"
	case path == "/logout":
		return ""
	case path == "/login":
		if next := request.LocalPath(form.Get("next")); next != "" {
			path += "?" + url.Values{"next": {next}}.Encode()
		}
		return path
	default:
		return path // the page that asks
	}
}
