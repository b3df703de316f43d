// Command dist makes the files of a release: for each platform a program without debugging
// information in an archive with its completions and manual, for Linux a deb and an rpm, the
// list of what the program is made of (SBOM), and checksums of all of them.
//
// What it makes of one commit is the same each time: programs name no folder and no time of
// their build, and what is in archives has the time of the commit.
package main
