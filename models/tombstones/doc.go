// Package tombstones keeps a file of what was taken away: tokens that were
// revoked, users that were disabled, members that were removed. The file is apart
// from the database, so that a database that is restored to an earlier time, or a
// standby that takes over without the latest writes, gives nothing back.
//
// # The file
//
// One process writes to a file, and commands on the same machine beside it. Each
// line is a checksum and a JSON document: first a header that names the file and
// the installation, then one [models.Tombstone] after the other. A line is on the
// disk before [File.Append] returns; many that come at once share one wait for
// the disk.
//
// A line that was cut is never counted as damage if nobody was told of success: it
// is the last one, or a mark that follows it says so. Any other line that does not
// match its checksum is damage, and [Read] says so.
//
// # Compaction
//
// Tombstones of tokens that would have expired by now matter to nobody. When they
// are most of the file, it is written anew without them and put in place of the
// old one. Who appends to the old one meanwhile notices that it is not at its path
// any more and appends again; what came before that is taken over.
package tombstones
