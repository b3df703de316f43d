// Package decisionlog keeps what was decided, and what it was decided on, so that
// any decision can be explained and made again.
//
// # A decision's way into the log
//
//  1. [Log.Record] is called on the path of the request. It copies references, no
//     more, into a buffer of bounded size. See [authz.Recorder].
//  2. A writer takes what has gathered every [Config.FlushInterval], puts it into
//     the form of the log, masks it, and counts it.
//  3. Each place has a queue of bounded size and a goroutine: the database, a file
//     of JSON lines, an HTTP endpoint. A place that fails is tried again, and holds
//     up no other.
//
// Events are OPA's; what its format has no field for stands under custom. Facts
// are written as JSON once and shared by all the decisions that were made on them.
//
// # Noise
//
// Anybody can make refusals without a token that verifies. [Log.Refused] counts
// them by address and minute in bounded memory and keeps a few of them; the id of
// the others says that they are counted, not kept: see [models.CountedIDs]. What is
// kept has a buffer, queues, goroutines, a file and a share of the rows of its own,
// and never delays or displaces decisions about tokens that verified.
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
// A full buffer or queue drops what is of the user, and of the user's token, that
// holds the most of it: of one token allowances before denials, the newest first.
// Dropped decisions are counted. It never blocks. With [Config.Required] an allowance
// waits until the first place, in the order database, file, endpoint, has it, and
// if that does not come about in [Config.Wait], the answer is a denial,
// `unavailable`. Denials never wait, and are written after what somebody waits for.
//
// The rows of the database are shared in the same way; see
// [Database.PruneDecisions]. How far back they reach is told by metrics and, where
// they are cut short, by a warning.
//
// # What is counted
//
// By day and token: outcomes, and what each scope was used for; by day: how many
// decisions were taken down and how many were not. The counts outlive the
// decisions, and advice on scopes nobody uses rests on them.
package decisionlog
