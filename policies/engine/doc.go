// Package engine asks the policy. It compiles a bundle of Rego into a [Snapshot],
// puts typed questions to it, and takes no answer that is not well-formed. It
// knows OPA, and nothing outside of it needs to; it knows nothing of databases, of
// HTTP or of where bundles come from.
//
// # Questions
//
// [Snapshot.Decide] asks data.patrol.authz.decision whether a request is allowed on
// given facts. [Snapshot.Route] asks data.patrol.http.request what a proxied request
// stands for, and [Snapshot.BodyNeed] asks data.patrol.http.hints what must be read
// of its body first. [Snapshot.Catalog] is what the policy's data say can be asked
// for and granted. The README.md of the policies folder describes the documents.
//
// # Guarantees
//
// A decision is a pure function of its input, the policy's revision and the version
// of OPA. The built-in functions that would break this (the network, the clock, the
// environment, random numbers) do not exist for policies: capabilities.json lists
// what does, the compiler holds every bundle to it, and a bundle may bring a shorter
// list of its own. `input.now` is the only clock.
//
// Nothing allows but a decision document that says so and is well-formed in every
// part. An undefined document, a wrong type, a field too many, an allowance with
// reasons, a denial without, an error in a built-in function (which plain Rego
// would take for undefined, and `not` for true), a timeout, even a panic inside OPA:
// each is an error, and callers deny on errors.
//
// All of a snapshot is checked when it is loaded: strict compilation, the names of
// facts against JSON schemas, data documents against theirs and against each other,
// and that a request about which nothing is known is denied. A snapshot does not
// change. An [Engine] holds the one in force and exchanges it whole; who asks twice
// on one snapshot is answered from one policy.
//
// # Around it
//
// Package workbench checks, tests, explains, compares and replays policies. It imports this
// package; nothing that runs on a request is in it.
//
// # Cost
//
// The parts of the input that outlive a request, the facts, are converted once, to a
// [Value] that any number of evaluations share. The data are read in place. Rules
// that depend on data alone can say `custom: {once: true}` in their metadata and are
// evaluated when the policy is loaded. What one evaluation of the default policy
// allocates is held by a test: at most 130 times for an allowance, 350 for a denial
// with all its reasons.
//
// Topdown is the reference evaluator. Once [Snapshot.Hasten] has held the compiled plans
// of the documents (package plan) against it, the plans answer, in about a tenth of the
// time; topdown answers what they leave and checks a share of the rest.
//
// # Known decisions
//
// testdata/ holds decisions and routes of the default policy. They are asked for
// again by the tests, so that an upgrade of OPA, or a change of the policy, that
// answers differently does not pass unseen.
package engine
