package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Unprivileged runs the test that calls it again as another user, if this process is
// root, whom no permission stops, and reports whether it did: then the caller returns.
func Unprivileged(t *testing.T) (done bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	// Others do not come to where the test's program is.
	dir, err := os.MkdirTemp("", "patrol-user-") //nolint:usetesting // nor through the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o700); err != nil {
		t.Fatal(err)
	}
	attr, err := unprivileged(dir, program)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program, "-test.v", "-test.run=^"+t.Name()+"$")
	run.Dir, run.SysProcAttr = dir, attr
	run.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("as another user: %v: %s", err, out)
	}
	return true
}
