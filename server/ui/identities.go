package ui

import (
	"net/url"
	"time"

	"patrol/models"
)

// identitiesURL is the page with who a user is at providers.
func identitiesURL(userID string) string { return userURL(userID) + "/identities" }

// Identities is the page with who a user is at providers, for admins.
func Identities(u models.User, found []models.Identity, now time.Time) Table {
	return identityTable(found, now, Table{
		Heading: "Identities of " + u.Name, Part: adminUsers, Path: identitiesURL(u.ID), Crumb: Link{Label: u.Name, URL: userURL(u.ID)}, First: true,
		Intro: "Who " + u.Email + " is at identity providers. Each is a way into the account. A password reset leaves them as they are.",
		Empty: "The account is connected with no identity provider.",
	}, identitiesURL(u.ID))
}

// OwnIdentities is the page with who the viewer is at providers.
func OwnIdentities(found []models.Identity, now time.Time) Table {
	return identityTable(found, now, Table{
		Heading: "Your identities", Part: password, Path: IdentityPath + "/list", Crumb: Link{Label: "Sign-in", URL: IdentityPath}, First: true,
		Intro: "Who you are at identity providers. Each is a way into your account: disconnect what you do not recognise, and change your password.",
		Empty: "Your account is connected with no identity provider.",
	}, IdentityPath)
}

func identityTable(found []models.Identity, now time.Time, t Table, base string) Table {
	t.Columns = []string{"Provider", "Subject there", "Connected", "Last used", ""}
	for _, one := range found {
		used := Cell{Text: "Not yet"}
		if one.LastUsedAt != nil {
			at := At(*one.LastUsedAt, now)
			used = Cell{Moment: &at}
		}
		t.Rows = append(t.Rows, []Cell{
			{Text: one.Issuer},
			{Text: one.Subject},
			dateCell(one.CreatedAt, now),
			used,
			{Text: "Disconnect…", URL: base + "/" + url.PathEscape(one.ID()) + "/disconnect"},
		})
	}
	return t
}

// Disconnect asks before a way into an account ends.
func Disconnect(one models.Identity, of *models.User, ask bool, p Problems) Confirm {
	c := Confirm{
		Heading: "Disconnect " + one.Issuer + "?", Problems: p, Submit: "Disconnect", Part: password,
		Lines:  []string{"You cannot sign in there any more. All your other sessions end. Your tokens stay as they are."},
		Action: IdentityPath + "/" + url.PathEscape(one.ID()) + "/disconnect", Cancel: IdentityPath + "/list",
	}
	if of != nil {
		c.Part, c.Cancel = adminUsers, identitiesURL(of.ID)
		c.Action = identitiesURL(of.ID) + "/" + url.PathEscape(one.ID()) + "/disconnect"
		c.Lines = []string{of.Email + " cannot sign in there any more, as subject " + one.Subject + ". All their sessions end; their tokens stay as they are."}
		if of.PasswordHash == "" {
			c.Lines = append(c.Lines, "The account has no password: nobody can sign in to it until you make a reset link.")
		}
	}
	if ask {
		c.Fields = []Field{{Name: "password", Label: "Your password", Kind: PasswordField, Required: true, Autocomplete: "current-password", Hint: "You signed in a while ago."}}
	}
	return c
}

// IdentityLinks lead from an account's page to its ways in.
func IdentityLinks(u models.User, found []models.Identity, now time.Time) []Link {
	var links []Link
	for _, one := range found {
		label := "Signs in at " + one.Issuer + " since " + At(one.CreatedAt, now).Date()
		if one.LastUsedAt != nil {
			label += ", last on " + At(*one.LastUsedAt, now).Date()
		}
		links = append(links, Link{Label: label + "…", URL: identitiesURL(u.ID)})
	}
	return links
}

// Anonymise asks before what names a user is taken out of the database.
func Anonymise(u models.User) Confirm {
	c := Confirm{
		Heading: "Anonymise " + u.Name + "?", Submit: "Anonymise", Part: adminUsers, Action: userURL(u.ID) + "/anonymise", Cancel: userURL(u.ID),
		Lines: []string{
			"Name, address, identities, memberships, names of tokens and from where they were used are removed for good, in the audit log, too. Tokens are revoked.",
			"The address " + u.Email + " stays taken, as a hash. Recorded decisions go when they are as old as the settings say, and backups keep what they have.",
		},
	}
	if !u.Disabled {
		c.Problems.General = "Disable the account first."
	}
	return c
}
