// Package bench measures Patrol and holds the results against bars. `make
// bench` runs:
//
//   - the program bench/load, which starts the built binary on loopback and
//     compares what it does with a handler that answers a constant, OPA's own REST
//     server, Go's own proxy, and the policy and evaluation of before (bench/frozen);
//     it writes docs/performance.md;
//   - the program bench/grpc, which compares Envoy's question over gRPC with a
//     service that answers a constant;
//   - the Go benchmarks of this package: parsing and verifying a token, one
//     evaluation of the default policy, finding a route among fifty and among a
//     thousand, one Authorize with everything cached,
//     and one with nothing cached on each database;
//   - a replay of 100,000 decisions under the policy that made them;
//   - what keeping every decision costs `POST /authorize`, in a file and in each
//     database, against keeping none;
//   - the answers of a server while a thousand policies come into force, twenty a second,
//     against those without.
//
// All work on the same [World]: users with tokens of ten scopes in one domain,
// none of whose secrets is good anywhere else.
//
// Numbers of one machine say little about another, and on a busy machine little
// about this one. The bars are therefore ratios between things measured in
// turns in the same run, or counts of allocations.
package bench
