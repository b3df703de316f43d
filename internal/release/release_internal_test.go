package release

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDescribe(t *testing.T) {
	const commit, date = "c4281d6aa5b14c0eb44cf2cbb6b2f4d1e8a2c7f3", "2026-11-30T08:00:00Z"
	platform := ", " + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
	recorded := []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.time", Value: date}, {Key: "vcs.modified", Value: "true"}}
	for _, c := range []struct {
		name                  string
		version, commit, date string // by the linker
		build                 debug.BuildInfo
		line                  string
		modified              bool
	}{
		{name: "nothing is known", line: "patrol devel (commit unknown"},
		{name: "a release", version: "1.2.3", commit: commit, date: date, line: "patrol 1.2.3 (commit c4281d6aa5b1 of " + date},
		{name: "a release of changed source", version: "1.2.3-dirty", commit: commit, date: date, line: "patrol 1.2.3-dirty (commit c4281d6aa5b1 of " + date, modified: true},
		{name: "a module of a version", build: debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, line: "patrol 1.2.3 (commit unknown"},
		{name: "a clone", build: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: recorded}, line: "patrol devel-c4281d6aa5b1 (commit c4281d6aa5b1 of " + date, modified: true},
		{name: "the linker has the last word", version: "1.2.3", commit: "abc", build: debug.BuildInfo{Main: debug.Module{Version: "v9.9.9"}, Settings: recorded[:2]}, line: "patrol 1.2.3 (commit abc of " + date},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := describe(c.version, c.commit, c.date, &c.build)
			assert.Equal(t, c.line+platform, got.String())
			assert.Equal(t, c.modified, got.Modified)
		})
	}
}
