// Package testenv finds the real components that tests run against, and says
// so plainly when one is missing.
//
// # Databases
//
// [EachDatabase] runs a test once per database. SQLite needs nothing.
// PostgreSQL comes from one of two places:
//
//   - PATROL_TEST_POSTGRES, the URL of a database on a running server. The role
//     must be allowed to create databases; each test gets one of its own.
//   - else a throwaway cluster, made with the initdb and postgres programs that
//     are in PATH or under /usr/lib/postgresql. It is started once per test
//     process on a random port of 127.0.0.1, without fsync, and is gone when
//     the process ends. PostgreSQL refuses to run as root; a root process
//     starts it as the user postgres.
//
// Packages that use PostgreSQL hand their TestMain to [Main], which ends the
// cluster.
//
// # An OpenID provider
//
// [OIDC] starts the certified provider of the npm package oidc-provider under
// Node.js, with people and a clock that the test sets.
//
// # OPA
//
// [OPA] builds OPA's own program, of the version that Patrol is built with, from
// tools/opa.
//
// # Missing components
//
// A test that cannot find what it needs calls [Missing]. That skips the test,
// unless PATROL_REQUIRE, a comma-separated list, names the component: then the
// test fails. Skips are appended, one line each, to the file named by
// PATROL_SKIPPED if it is set, so that a run over all packages can end with one
// summary.
//
// # Children
//
// PATROL_TEST_PROGRAM names a patrol that tests start in place of themselves; `make
// test` builds it without the race detector, see [Program].
//
// PATROL_LONG=1 asks for long fuzzing, property tests and soaks; see [Long].
package testenv
