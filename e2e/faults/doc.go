// Package faults breaks what Patrol runs on, under load, and checks every answer.
//
// Some servers share a database. For each owner of tokens, a writer makes and revokes tokens,
// takes memberships away and gives them back, disables and enables a domain, over any of the
// servers, while readers ask any server what a token may do. One fault happens: a server or a
// database is killed, stopped, cut off, slow, or replaced by its standby. Then all is mended, and
// the history of calls and answers goes to a linearizability checker, porcupine, with a model of
// what a token may do (history_test.go):
//
//   - an answer with consistency full must agree with one order of all writes in which each write
//     happened between its call and its answer;
//   - any other answer may be as old as the servers' maximum staleness, and no older;
//   - a write that was acknowledged stays;
//   - a refusal to answer (503, no connection) is always permitted, and counted.
//
// So a wrong allow, a wrong denial and a lost write are the same finding: the history has no
// explanation. After each fault every server must answer again; the time is reported.
//
// `make faults` runs the long form, PATROL_FAULTS=n rounds of each kind of fault.
package faults
