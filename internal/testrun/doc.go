// Testrun runs this repository's tests for `make test` and `make fuzz`. Two
// things need more than a plain `go test ./...`:
//
//   - Nothing is left out in silence. Tests that need a real component which is
//     absent, such as a PostgreSQL server, are skipped through internal/testenv,
//     which appends a line to the file that PATROL_SKIPPED names. Testrun makes
//     that file and ends with one summary of it. The race detector, which needs
//     a C compiler, is treated the same way.
//   - `go test -fuzz` takes one target at a time. Testrun finds them all and
//     gives each the same time.
//
// Environment:
//
//	PATROL_REQUIRE  comma-separated names (postgres, race, ...): what is named
//	                here must be there; its absence is a failure, not a skip
//	PATROL_LONG=1   longer fuzzing, property tests and soaks
//
// The output of `go test` is passed on as it is.
package main
