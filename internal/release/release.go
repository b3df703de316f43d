// Package release identifies the build of a program of Patrol: its version, the commit that
// it was made of, and that commit's time. The time of the build is nowhere, so that
// building the same commit twice gives the same bytes.
//
// Releases are told by the linker (see the Makefile). What was built without that, such as
// by `go install`, says what Go recorded of its source.
package release

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Set by the linker.
var version, commit, date string

// Info describes a build.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // "" if it is not known
	Date    string `json:"date"`   // of the commit, RFC 3339 in UTC; "" if it is not known
	// Modified reports whether the source had changes that are in no commit.
	Modified bool   `json:"modified"`
	Go       string `json:"go_version"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Current describes this program.
func Current() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return describe(version, commit, date, build)
}

// describe puts together what the linker and Go say of a build.
func describe(version, commit, date string, build *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Date: date, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = cmp.Or(info.Commit, s.Value)
		case "vcs.time":
			info.Date = cmp.Or(info.Date, s.Value)
		case "vcs.modified":
			info.Modified = s.Value == "true"
		}
	}
	info.Modified = info.Modified || strings.HasSuffix(info.Version, "-dirty")
	switch recorded := build.Main.Version; {
	case info.Version != "":
	case recorded != "" && recorded != "(devel)":
		info.Version = strings.TrimPrefix(recorded, "v")
	case info.Commit != "":
		info.Version = "devel-" + short(info.Commit)
	default:
		info.Version = "devel"
	}
	return info
}

// String is the line that patrol --version prints.
func (i Info) String() string {
	source := "commit unknown"
	if i.Commit != "" {
		source = "commit " + short(i.Commit)
	}
	if i.Date != "" {
		source += " of " + i.Date
	}
	return fmt.Sprintf("patrol %s (%s, %s, %s/%s)", i.Version, source, i.Go, i.OS, i.Arch)
}

// short abbreviates a commit to its first 12 characters.
func short(commit string) string { return commit[:min(12, len(commit))] }
