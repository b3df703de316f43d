package ui

import (
	"net/url"

	"patrol/models"
)

// PurgePath and AnyPurgePath are the pages that ask before records of dead tokens go: one's
// own, and those of others.
const (
	PurgePath    = "/profile/pats/purge"
	AnyPurgePath = "/admin/pats/purge"
)

// PurgeAnyTime is the choice of tokens that are dead, for however long.
const PurgeAnyTime = "any"

// purgeAges are the choices of how long tokens have been dead; the first is the default.
var purgeAges = []Option{
	{Value: "30d", Label: "30 days ago or earlier"},
	{Value: "7d", Label: "7 days ago or earlier"},
	{Value: "90d", Label: "90 days ago or earlier"},
	{Value: "365d", Label: "365 days ago or earlier"},
	{Value: PurgeAnyTime, Label: "At any time"},
}

// Purge asks before the records of one's own dead tokens go. age is what was chosen, "" for
// nothing yet.
func Purge(age string, p Problems) Confirm {
	return Confirm{
		Heading: "Remove the records of your dead tokens?",
		Lines: []string{
			"Tokens that were revoked or have expired go from your list. None of them works, and none that works is touched.",
			"The audit log keeps what happened with them.",
		},
		Fields: []Field{purgeAge(age)}, Action: PurgePath, Submit: "Remove the records", Cancel: "/profile/pats", Part: tokens, Problems: p,
	}
}

// PurgeAny asks before the records of the dead tokens of a user go, or of everybody without one.
func PurgeAny(user *models.User, age string, p Problems) Confirm {
	c := Purge(age, p)
	c.Action, c.Cancel, c.Part = AnyPurgePath, "/admin/pats", adminTokens
	c.Heading, c.Hidden = "Remove the records of all dead tokens?", map[string]string{"all": "true"}
	c.Lines[0] = "Tokens that were revoked or have expired go from the lists of their owners and from yours. None of them works, and none that works is touched."
	if user != nil {
		c.Heading, c.Hidden, c.Cancel = "Remove the records of the dead tokens of "+user.Name+"?", map[string]string{"user": user.ID}, userURL(user.ID)
	}
	return c
}

func purgeAge(chosen string) Field {
	if chosen == "" {
		chosen = purgeAges[0].Value
	}
	return Field{Name: "older_than", Label: "They ended", Kind: SelectField, Options: selected(purgeAges, chosen), Required: true}
}

// PurgeURL is the page that asks about the tokens of a user, "" for everybody's.
func PurgeURL(userID string) string {
	if userID == "" {
		return AnyPurgePath + "?all=true"
	}
	return AnyPurgePath + "?" + url.Values{"user": {userID}}.Encode()
}

// Purged says how many records went.
func Purged(n int, more bool) string {
	text := "No token has been dead for so long."
	if n > 0 {
		text = plural(n, "record is", "records are") + " removed."
	}
	if more {
		text += " There are more: do it again."
	}
	return text
}
