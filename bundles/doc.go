// Package bundles brings policy from where it is kept into force. It reads a bundle,
// the files that make up a policy, and hands it over as an [engine.Source]; to
// understand it is the engine's part.
//
// A bundle is named by one word of configuration. The empty word is the bundle in
// the binary. Anything else is the path of a folder, laid out as Patrol's own
// policies folder, the path of a gzipped tar archive of one, such as `opa build -b`
// writes, or the URL of such an archive. All give the same policy for the same files.
//
// # The way into force
//
//   - [Read] and [Unpack] read a bundle once. A [Source] says what its place holds
//     each time that this changes.
//   - A [Verifier], if there are keys, holds each file against the signature.
//   - A [Gate] has a candidate judged in child processes with limits, see package
//     sandbox: it must be a sound policy with tests of its own that allows
//     nothing of the safety suite.
//   - A [Ledger], which the store keeps, holds which revision is in force. A [Delivery]
//     writes there what passes and follows what others write, so that all servers
//     on a database end with the same policy.
//
// A candidate that does not pass changes nothing: the policy in force stays, and the log, the
// metrics and [Delivery.Status] say why.
//
// # What is trusted
//
// A bundle decides who may do what, so whoever can write it, or has a key that it is to be
// signed with, is trusted. The archive
// may yet have been damaged or swapped on its way, so that reading it is bounded:
// in the number of files, the size of each and of all, before and after
// decompression. Archives may hold no links, no two files of one name, and no
// names that lead out of the bundle; nothing is ever unpacked to disk. In folders,
// links to files are followed as long as they stay inside, which is how Kubernetes
// mounts configuration; folders whose names start with a dot are passed over. A URL must
// be https, but for this machine.
//
// Files that are no part of a policy or of its tests (see [engine.IsPolicyFile] and
// [engine.IsTestFile]) are passed over, but they count, and a signature is about
// them too.
package bundles
