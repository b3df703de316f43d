package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// OPA returns the path of OPA's own program, of the version that tools/opa pins:
// PATROL_TEST_OPA, or what is built from there, once into the user's cache. Where it cannot be
// built, the test ends as [Missing] says.
func OPA(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PATROL_TEST_OPA"); path != "" {
		return path
	}
	path, err := opaProgram()
	if err != nil {
		Missing(t, "opa", err.Error())
	}
	return path
}

var opaProgram = sync.OnceValues(func() (path string, err error) {
	module, err := opaModule()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(sums)
	dir := filepath.Join(cache, "patrol-test", "opa-"+hex.EncodeToString(digest[:6]))
	if path = filepath.Join(dir, "opa"); isFile(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// Packages are tested side by side: whoever is done first has built it for all.
	made, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	build := exec.Command("go", "build", "-C", module, "-trimpath", "-o", filepath.Join(made, "opa"), "github.com/open-policy-agent/opa")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build OPA's program: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, os.Rename(filepath.Join(made, "opa"), path)
})

// opaModule finds tools/opa above the folder of the test.
func opaModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		module := filepath.Join(dir, "tools", "opa")
		if isFile(filepath.Join(module, "go.mod")) {
			return module, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("there is no tools/opa above the test")
		}
		dir = up
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
