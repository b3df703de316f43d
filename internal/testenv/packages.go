package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var packages sync.Mutex

// NodePackages returns a folder with these npm packages, each as name@version,
// installed once into the user's cache. Without npm or its registry, the test ends as
// [Missing] says about component.
func NodePackages(t testing.TB, component string, names ...string) string {
	t.Helper()
	dir, err := install(t, "npm", names, func(dir string) *exec.Cmd {
		return exec.Command("npm", append([]string{"install", "--prefix", dir, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"}, names...)...)
	})
	if err != nil {
		Missing(t, component, err.Error())
	}
	return dir
}

// PythonPackages returns the path of a Python that has these packages, each as
// name==version, as [NodePackages] does.
func PythonPackages(t testing.TB, component string, names ...string) string {
	t.Helper()
	dir, err := install(t, "python", names, func(dir string) *exec.Cmd {
		return exec.Command("sh", append([]string{"-c", `python3 -m venv "$0" && exec "$0/bin/pip" install --quiet --disable-pip-version-check "$@"`, dir}, names...)...)
	})
	if err != nil {
		Missing(t, component, err.Error())
	}
	return filepath.Join(dir, "bin", "python3")
}

// install has a command fill a folder in the cache, unless it is there already.
func install(t testing.TB, kind string, names []string, command func(dir string) *exec.Cmd) (string, error) {
	t.Helper()
	packages.Lock()
	defer packages.Unlock()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(strings.Join(names, " ")))
	dir := filepath.Join(cache, "patrol-test", kind+"-"+hex.EncodeToString(digest[:6]))
	done := filepath.Join(dir, "done")
	if isFile(done) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if out, err := command(dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w: %s", strings.Join(names, " "), err, strings.TrimSpace(string(out)))
	}
	return dir, os.WriteFile(done, nil, 0o600)
}
