// Package decisionlog keeps what was decided, and what it was decided on, so that
// any decision can be explained and made again.
//
// # A decision's way into the log
//
//  1. [Log.Record] is called on the path of the request. It copies references, no
//     more, into a buffer of bounded size. See [authz.Recorder].
//  2. A writer takes what has gathered every [Config.FlushInterval], puts it into
//     the form of the log, masks it, and counts it.
//  3. Each sink has a queue of bounded size and a goroutine: the database, a file
//     of JSON lines, an HTTP endpoint. A sink that fails is tried again, and holds
//     up no other.
//
// Events are OPA's; what its format has no field for stands under custom. Facts
// are written as JSON once and shared by all the decisions that were made on them.
//
// # What is not in the log
//
// Secrets are not: they never reach the policy's input. Text that looks like a
// token of Patrol is masked wherever a client could have put it. What else is not
// to be kept says data.patrol.log.mask, a document of the policy. If that cannot
// be evaluated or applied, the decision is logged without its input.
//
// # When there is no room
//
// A full buffer or queue drops allowances before denials, the newest first, and
// counts what it dropped. It never blocks. With [Config.Required] it is the other
// way round: an allowance waits until the first sink, in the order database, file,
// endpoint, has it, and if that does not come about in [Config.Wait], the answer
// is a denial, `unavailable`. Denials never wait.
//
// # What is counted
//
// By day and token: outcomes, and what each scope was used for; by day: how many
// decisions were taken down and how many were not. The counts outlive the
// decisions, and advice on scopes nobody uses rests on them.
package decisionlog
