// Load compares the built program with others that take the same requests over HTTP:
//
//   - `POST /authorize`, with the decision log in SQLite and without one, with a Gin
//     handler that reads the same body and answers a constant of the same size; with
//     OPA's REST server (`opa run --server --log-level error`, built from the version
//     that Patrol links) evaluating the same default policy, which is sent with each
//     request all that Patrol looks up; and with the same server and a minimal policy, whose
//     data are the tokens;
//   - the gateway, with `httputil.ReverseProxy` before the same upstream.
//
// All run as processes of their own on 127.0.0.1, one after the other in
// each round, and only their own CPU time is counted, as the kernel reports it
// (user and system), so the client's work does not matter. In every round
// evaluations are measured too, in this process, beside the policy and the evaluation of
// before plans were compiled (package frozen). What is reported are medians over the
// rounds, ratios first, each with its bar and PASS or FAIL; the exit status is 1 if any
// failed. With -write the same is written as a page with a picture.
//
// Run it with `make bench`, which builds what it needs. It reads /proc and so
// needs Linux.
package main
