// Package workbench serves the people who write policies. It checks a bundle before it
// comes into force, runs its tests, explains answers, compares two policies, and replays
// logged decisions. It builds on package engine, which answers requests and does not
// import this package.
//
// # Checks
//
// [Check] holds a bundle, before it may come into force, against more than [engine.Load]
// does: its own tests must be there, pass, run enough of it, and notice if the
// decision is plainly wrong; and a suite of cases that no policy may allow, see
// [SafetyCases], must not be allowed. The server's gate and the command line both
// call this one function. It finds as much as it can, each finding with file, line and column.
//
// # Replay
//
// [ReplayDecision] makes one logged decision again under a policy, [ReplayEvent] one event of
// the decision log, [Replay] and [ReplayEvents] a whole log. [Diff] compares what two policies
// say and what they decide on known inputs, [Explain] names the rules behind an answer and the
// smallest change of the facts that would allow what was denied.
package workbench
