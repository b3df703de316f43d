// Package ui is what people see of Patrol: the pages for tokens, the account, the
// policy and administration, as templates, a style sheet and two small scripts, all embedded
// in the binary. Nothing is built, and nothing is loaded from elsewhere.
//
// The package turns values into pages and forms into values. It decides nothing:
// which rules a name, a scope or a lifetime obeys and who may do what is asked of
// the server's core, the same that answers JSON. What it gets back — a record, or
// an error with its fields — it shows. So a page cannot permit what the API
// refuses.
//
// # Pages
//
// A page is a struct that names its template ([Page]); [UI.Write] puts it into
// the frame with navigation and landmarks and answers with it. Every form works
// without JavaScript: what a script does in the browser (a further scope, a
// narrowed list) can be had by a button that asks the server. Scripts only add
// comfort: local times, the date of expiry while one chooses, copying.
//
// # Safety
//
// Text is escaped by html/template for the place where it stands. Answers carry a
// Content-Security-Policy that permits the page's own style sheets and scripts
// and nothing else, inline code included ([UI.Write]). No page but [Reveal] holds
// a secret, and no URL does. A form that makes something carries a one-time key
// ([Once]), so that sending it twice makes one thing.
//
// # Accessibility
//
// The pages aim at WCAG 2.2 AA: landmarks and a skip link, one h1, labels on all
// fields, an error summary that takes the focus and links to what is wrong,
// states in words and never by colour alone, both colour schemes at a contrast of
// at least 4.5:1, and no horizontal scrolling down to 360 pixels.
package ui
