// Command patrol is everything that Patrol is: the server, the tools of whoever
// runs it, and the tools of the people who own tokens.
//
//   - serve and migrate run the server and its schema;
//   - user, domain and member work straight on the database, for whoever has a
//     shell on the server, and bind in a running server within a second;
//   - login, logout, pat and authorize talk to a server over HTTP;
//   - policy works on the files of a policy, with the engine of the server;
//   - config prints the settings in force, doctor looks at the installation, and health
//     at the server.
//
// The exit status is 0 if what was asked is done or allowed, 1 if it was denied,
// and 2 if something went wrong. What is asked for goes to standard output,
// everything else to standard error; an error is one line in plain words, and no
// output but the one that makes a token or password ever holds one.
//
// This package is wiring: it reads settings, opens the parts and puts them
// together, and turns their answers into text.
//
//go:generate sh -c "go run . config --reference > ../../docs/configuration.md"
//go:generate go test -count=1 -run ^TestMetrics$ -update .
package main
