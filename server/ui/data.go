package ui

// DataPath is the path of the page about what is kept about oneself.
const DataPath = "/profile/data"

// OwnData is the page that offers what is kept about the viewer.
func OwnData() Message {
	return Message{
		Heading: "Your data", Part: dataPart, Link: DataPath + "/export", Label: "Download it as JSON",
		Lines: []string{
			"What Patrol keeps about you in one file: your account, memberships and identities, tokens and where each was used last, sessions, codes, what you did " +
				"and what was done to your account, and decisions about your tokens. No secret is in it.",
		},
	}
}
