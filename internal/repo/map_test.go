package repo_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMap holds the map of AGENTS.md against the tree: what it names exists, and every
// package has a place on it.
func TestMap(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "AGENTS.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(content), "| to change | go to |")
	require.True(t, ok, "the map is gone")
	table, _, _ := strings.Cut(rest, "\n## ")
	var named []string
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(table, -1) {
		name := strings.TrimSuffix(match[1], "/")
		found, err := filepath.Glob(filepath.Join(root, name))
		require.NoError(t, err)
		assert.NotEmpty(t, found, "the map names %s, which does not exist", match[1])
		named = append(named, name)
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if base := filepath.Base(dir); base == "testdata" || base == "tools" || strings.HasPrefix(base, ".") && dir != "." {
			return filepath.SkipDir
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); len(files) > 0 {
			assert.True(t, covered(filepath.ToSlash(dir), named), "package %s has no place on the map", dir)
		}
		return nil
	}))
}

// covered reports whether a directory, or one above it, is named.
func covered(dir string, named []string) bool {
	for ; dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
		for _, name := range named {
			if name == dir || strings.HasPrefix(name, dir+"/") && strings.Contains(filepath.Base(name), ".") {
				return true
			}
		}
	}
	return false
}
