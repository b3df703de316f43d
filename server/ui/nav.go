package ui

// section is the part of the site that a page belongs to.
type section string

const (
	noSection    section = ""
	tokens       section = "tokens"
	password     section = "password"
	sessionsPart section = "sessions"
	dataPart     section = "data"
	help         section = "help"
	testToken    section = "test"
	adminUsers   section = "users"
	adminDomains section = "domains"
	adminTokens  section = "inventory"
	adminLeaked  section = "leaked"
	adminAudit   section = "audit"

	policyOverview  section = "policy"
	policyRules     section = "policy-rules"
	policyDecisions section = "policy-decisions"
	policyHistory   section = "policy-history"
	policyShadow    section = "policy-shadow"

	policyPlayground section = "policy-playground"
	policyAdvice     section = "policy-advice"
)

// navItem is one link of a navigation.
type navItem struct {
	Label, URL string
	Current    bool // the page itself
	Within     bool // the page is somewhere below
	parts      []section
}

type navGroup struct {
	label, url string
	admin      bool // for platform admins; domain admins have a part of it
	policy     bool // for the policy team and platform admins
	items      []navItem
}

var navigation = []navGroup{
	{label: "Profile", url: "/profile/pats", items: []navItem{
		{Label: "Personal access tokens", URL: "/profile/pats", parts: []section{tokens}},
		{Label: "Password", URL: "/profile/password", parts: []section{password}},
		{Label: "Sessions", URL: "/profile/sessions", parts: []section{sessionsPart}},
		{Label: "Your data", URL: DataPath, parts: []section{dataPart}},
	}},
	{label: "Policy", url: "/policy", policy: true, items: []navItem{
		{Label: "Overview", URL: "/policy", parts: []section{policyOverview}},
		{Label: "Rules", URL: "/policy/rules", parts: []section{policyRules}},
		{Label: "Decisions", URL: decisionsPage, parts: []section{policyDecisions}},
		{Label: "Shadow", URL: "/policy/shadow", parts: []section{policyShadow}},
		{Label: "Playground", URL: "/policy/playground", parts: []section{policyPlayground}},
		{Label: "History", URL: "/policy/history", parts: []section{policyHistory}},
		{Label: "Unused scopes", URL: AdvicePath, parts: []section{policyAdvice}},
	}},
	{label: "Administration", url: "/admin/pats", admin: true, items: []navItem{
		{Label: "All tokens", URL: "/admin/pats", parts: []section{adminTokens}},
		{Label: "Leaked token", URL: "/admin/leaked", parts: []section{adminLeaked}},
		{Label: "Users", URL: "/admin/users", parts: []section{adminUsers}},
		{Label: "Domains", URL: "/admin/domains", parts: []section{adminDomains}},
		{Label: "Audit log", URL: "/admin/audit", parts: []section{adminAudit}},
	}},
	{label: "Help", url: "/help", items: []navItem{
		{Label: "About tokens", URL: "/help", parts: []section{help}},
		{Label: "Test a token", URL: "/help/test", parts: []section{testToken}},
	}},
}

// domainAdministration is the part of the administration that domain admins see.
var domainAdministration = navGroup{label: "Administration", url: "/admin/domains", items: []navItem{
	{Label: "Domains", URL: "/admin/domains", parts: []section{adminDomains}},
}}

// newView finds the place of a page in the navigation.
func newView(frame Frame, page Page) view {
	v := view{Frame: frame, Page: page}
	if p, ok := page.(interface{ keepsForm() bool }); ok && p.keepsForm() {
		v.Sent = ""
	}
	if frame.Viewer == nil {
		return v
	}
	here := noSection
	if p, ok := page.(interface{ section() section }); ok {
		here = p.section()
	}
	top := false
	if p, ok := page.(interface{ top() bool }); ok {
		top = p.top()
	}
	for _, group := range navigation {
		if group.policy && !frame.Viewer.Policy && !frame.Viewer.Admin {
			continue
		}
		if group.admin && !frame.Viewer.Admin {
			if !frame.Viewer.Domains {
				continue
			}
			group = domainAdministration
		}
		item := navItem{Label: group.label, URL: group.url}
		var sub []navItem
		for _, i := range group.items {
			for _, part := range i.parts {
				if here != noSection && part == here {
					item.Within, i.Current, i.Within = true, top, !top
				}
			}
			sub = append(sub, i)
		}
		if item.Within {
			v.Sub = sub
		}
		v.Nav = append(v.Nav, item)
	}
	return v
}
