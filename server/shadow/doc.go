// Package shadow judges what the server decides again, under a policy that is not in
// force, and keeps count of what that one would have decided otherwise.
//
// # A decision's way
//
//  1. [Shadow.Record] is called on the path of the request. It draws whether the
//     decision is in the sample, and then copies references, no more, into a queue of
//     bounded size. A full queue drops, and counts what it dropped. See
//     [authz.Recorder].
//  2. One worker writes what has gathered as events, and has them judged by a child
//     process, see [bundles.Candidate], on the very input that the decision was made
//     on, before anything is masked. In a child, since a policy that passed all its
//     tests may still take any amount of memory or time on an input that nobody
//     thought of: what ends then is the child. The decision at which that happened counts
//     as an error, and another child goes on with the next.
//  3. What comes out is added up by kind and reasons, and written to the
//     database every few seconds, so that all servers on it count together.
//
// # What it may cost
//
// Work and rest are dealt out so that judging takes no more than [Config.Share] of one
// processor, in a process of low priority; what does not fit is dropped. Nothing
// here waits for anything on the path of a request, and nothing that comes out of a
// shadow can reach an answer: there is no way back from here to there.
//
// # What is kept
//
// Counts, and of each kind of divergence the latest decisions: id, time, request,
// token, user and the codes of the reasons, as the decision log would show them, with
// the mask of the policy in force applied. If that mask fails, the request is left
// out.
package shadow
