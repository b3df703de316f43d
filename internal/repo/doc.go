// Package repo holds tests about the repository as a whole: that the commands in
// the documents work, that links lead somewhere, that pinned versions agree, and that
// what is deployed says what the programs understand. It has no code of its own.
//
// # Commands in documents
//
// Every code block of a document that is marked `sh` is run by bash, in order,
// in a copy of the repository. One document is one session: variables and files
// that a block leaves are there for the next. A block is marked further by what
// follows `sh`:
//
//	sh               run it; it must succeed
//	sh background    start it, wait until it listens, and leave it running
//	sh norun: why    do not run it, for the reason given
//
// A block marked `text` right after one that is run is what it prints: each line
// must occur in the output, in that order; `…` stands for anything.
//
// The READMEs of examples/ are run apart, each section from the beginning, in its own
// folder: what is marked `sh background` all runs beside the rest until the section's
// end. Free ports stand in the place of those in the files.
//
// Documents speak of 127.0.0.1:8080, of an upstream at 127.0.0.1:11434 and of a
// database at db.example.com. In a test the server and a stand-in for the upstream
// listen on free ports, and the database is one of internal/testenv.
package repo
