// Package plan evaluates OPA's plan of a policy. OPA's planner turns a query and the
// rules that it needs into statements on local variables (package ir); [Compile]
// turns those into Go closures, once, when a policy is loaded. A [Program] gives the
// same values as OPA's evaluator, topdown, in a small part of the time.
//
// # Guarantees
//
// A program computes with OPA's own values (package ast) and OPA's own built-in
// functions. It never guesses: what it cannot compile is an error of [Compile], and
// what goes wrong in an evaluation is an error of [Program.Eval]. Callers then ask
// topdown, which stays the reference.
//
// The documents that a program reads are not changed by it, and a program is
// immutable: any number of goroutines may evaluate it.
//
// # Slots
//
// The input of an evaluation is a list of terms in the order of a [Shape], which says
// for each at which path of `input` it stands. A statement that reads such a path
// reads the slot. Any other use of `input`, or of an object that contains slots, gets
// the whole document, which is built when it is first needed. So a slot is only a
// shorter way to the same value. The value of one slot may be given as a [Tree], too, in
// which a leaf is found by all its keys at once.
//
// # Many rules
//
// Bodies of a rule whose order means nothing are looked up by the text that they compare
// a slot with. [Program.Linear] names the rules of which many bodies cannot be.
package plan
