// Load compares `POST /authorize` of the built program with two others that take
// the same requests over HTTP:
//
//   - constant: a Gin handler that reads the same body and answers a constant
//     of the same size, which is what HTTP alone costs here;
//   - opa: OPA's REST server (`opa run --server --log-level error`), built from
//     the version that Patrol links, evaluating the same default policy. Patrol
//     looks up what it judges by; OPA is sent all of it with each request.
//
// All three run as processes of their own on 127.0.0.1, one after the other in
// each round, and only their own CPU time is counted, as the kernel reports it
// (user and system), so the client's work does not matter. In every round a bare
// evaluation and a cached Authorize are measured too, in this process. What is
// reported are medians over the rounds and ratios of medians, then each bar with
// PASS or FAIL; the exit status is 1 if any failed.
//
// Run it with `make bench`, which builds what it needs. It reads /proc and so
// needs Linux.
package main
