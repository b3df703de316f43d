// Package sandbox runs work on a policy that nobody has vouched for in a child
// process of the same program, because Go cannot bound inside a process what Rego
// takes: a test that never ends, or one that allocates without end, would take the
// server with it.
//
// # What holds
//
// The child has an environment of its own, with nothing of the parent's in it, no
// files but standard input, output and error, and a folder that holds nothing as
// its working directory. It sets its limits before it reads its first byte:
//
//   - CPU time: the kernel kills it (RLIMIT_CPU);
//   - memory: the kernel refuses more (RLIMIT_DATA, since Go reserves far more
//     addresses than it uses, which RLIMIT_AS would count), the garbage collector works
//     against a limit below it, and the parent looks at the memory that is really
//     used and kills;
//   - wall time: the parent kills its process group.
//
// It has no core file, makes no files and runs at a low priority on one processor, so
// that the server's requests come first. If the parent ends, however, the child does.
// That is so on Linux. Elsewhere the parent's deadline and the garbage collector's limit
// are what there is.
//
// # How they talk
//
// One JSON value to standard input, and after it what the job is to read bit by bit,
// one JSON value from standard output, and the exit status. The output is read up to a limit. What exceeded a limit is a [LimitError].
//
// The program hands the command line that starts the child to [Main] before it does anything
// else, and with it the jobs by name.
package sandbox
