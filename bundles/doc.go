// Package bundles knows where policy comes from. It reads a bundle, the files that
// make up a policy, and hands it over as an [engine.Source]; to understand it is
// the engine's part.
//
// A bundle is named by one word of configuration. The empty word is the bundle in
// the binary. Anything else is the path of a folder, laid out as Patrol's own
// policies folder, or of a gzipped tar archive of one, such as `opa build -b`
// writes. All three give the same policy for the same files.
//
// # What is trusted
//
// A bundle decides who may do what, so whoever can write it is trusted. The archive
// may yet have been damaged or swapped on its way, so that reading it is bounded:
// in the number of files, the size of each and of all, before and after
// decompression. Archives may hold no links, no two files of one name, and no
// names that lead out of the bundle; nothing is ever unpacked to disk. In folders,
// links to files are followed as long as they stay inside, which is how Kubernetes
// mounts configuration; folders whose names start with a dot are passed over.
//
// Files that are no part of a policy or of its tests (see [engine.IsPolicyFile] and
// [engine.IsTestFile]) are passed over, but they count.
package bundles
