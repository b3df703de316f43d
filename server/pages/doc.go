// Package pages answers people: it reads forms, calls package manage or identity, and shows
// what they return by the templates of package ui. It has no rules of its own.
//
// A form is sent to the address of the page that shows it. A form that was refused is shown
// again, filled in but for secrets; one that was followed leads to another page, so that a
// reload does not send it again. What is shown once has a page of its own; see
// docs/decisions/0029-shown-once.md.
package pages
