//go:build unix

package repo_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// most bounds the size of a released program, in bytes: 70 % of the 96 MB that it had with
// debugging information and all of gin's encodings.
const most = 67_000_000

// TestDist makes a release for the platform that CI has, twice, and holds that both are the
// same; then it installs, starts, asks and removes the deb, in a folder of its own.
func TestDist(t *testing.T) {
	for _, program := range []string{"make", "dpkg"} {
		findProgram(t, program)
	}
	dir := filepath.Join(t.TempDir(), "patrol")
	copyRepository(t, dir)
	release := func(out string) {
		cmd := exec.CommandContext(t.Context(), "make", "dist", "PLATFORMS=linux/amd64", "VERSION=1.2.3", "COMMIT=c4281d6aa5b14c0eb44cf2cbb6b2f4d1e8a2c7f3",
			"DATE=2026-11-30T08:00:00Z", "ARGS=-out "+out)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "MAKEFLAGS=")
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, string(text))
	}
	release("dist")
	names := func() (found []string) {
		entries, err := os.ReadDir(filepath.Join(dir, "dist"))
		require.NoError(t, err)
		for _, e := range entries {
			found = append(found, e.Name())
		}
		return found
	}()
	assert.Equal(t, []string{
		"checksums.txt", "patrol-1.2.3-1.x86_64.rpm", "patrol_1.2.3_amd64.deb", "patrol_1.2.3_linux_amd64.tar.gz", "patrol_1.2.3_sbom.cdx.json",
	}, names)
	out, err := called(t, dir+"/dist", "sha256sum", "--check", "--strict", "checksums.txt")
	require.NoError(t, err, out)
	release("again")
	for _, name := range names {
		one, err := os.ReadFile(filepath.Join(dir, "dist", name))
		require.NoError(t, err)
		two, err := os.ReadFile(filepath.Join(dir, "again", name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(one, two), "%s is not the same twice", name)
	}
	sbom := fileText(t, filepath.Join(dir, "dist", "patrol_1.2.3_sbom.cdx.json"))
	for _, module := range []string{"github.com/open-policy-agent/opa", "gorm.io/gorm", "modernc.org/sqlite"} {
		assert.Contains(t, sbom, module)
	}
	installDeb(t, filepath.Join(dir, "dist", "patrol_1.2.3_amd64.deb"))
}

// installDeb installs a deb below a folder, uses what is there, and removes it.
func installDeb(t *testing.T, deb string) {
	t.Helper()
	where := t.TempDir()
	for _, name := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info"} {
		require.NoError(t, os.MkdirAll(filepath.Join(where, name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(where, "var/lib/dpkg/status"), nil, 0o600))
	dpkg := func(args ...string) {
		out, err := called(t, where, "dpkg", append([]string{"--root=" + where, "--force-script-chrootless", "--force-not-root", "--force-depends"}, args...)...)
		require.NoError(t, err, out)
	}
	dpkg("--install", deb)
	for _, name := range []string{
		"usr/bin/patrol", "usr/lib/systemd/system/patrol.service", "usr/lib/sysusers.d/patrol.conf", "etc/patrol/patrol.yaml",
		"usr/share/bash-completion/completions/patrol", "usr/share/zsh/vendor-completions/_patrol", "usr/share/fish/vendor_completions.d/patrol.fish",
		"usr/share/man/man1/patrol.1", "usr/share/man/man1/patrol-serve.1", "usr/share/doc/patrol/copyright",
	} {
		assert.FileExists(t, filepath.Join(where, name))
	}
	program := filepath.Join(where, "usr/bin/patrol")
	info, err := os.Stat(program)
	require.NoError(t, err)
	assert.LessOrEqual(t, info.Size(), int64(most))
	out, err := called(t, where, program, "--version")
	require.NoError(t, err, out)
	assert.Contains(t, out, "patrol 1.2.3 (commit c4281d6aa5b1 of 2026-11-30T08:00:00Z, go")
	unit := fileText(t, filepath.Join(where, "usr/lib/systemd/system/patrol.service"))
	assert.Contains(t, unit, "ExecStart=/usr/bin/patrol serve --config /etc/patrol/patrol.yaml\n")

	// What the unit starts, with the settings that are installed.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := exec.CommandContext(ctx, program, "serve", "--config", filepath.Join(where, "etc/patrol/patrol.yaml"), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0")
	server.Env = []string{"PATROL_DATA_DIR=" + filepath.Join(where, "var/lib/patrol"), "HOME=" + where}
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	stderr, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	url := ""
	for lines := bufio.NewScanner(stderr); url == "" && lines.Scan(); {
		if m := regexp.MustCompile(`"url":"([^"]+)"`).FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	require.NotEmpty(t, url, "it does not listen")
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	out, err = called(t, where, program, "health", "--url", url, "--timeout", "60s")
	require.NoError(t, err, out)
	cancel()
	_ = server.Wait() // it was interrupted

	dpkg("--remove", "patrol")
	assert.NoFileExists(t, program)
	assert.FileExists(t, filepath.Join(where, "etc/patrol/patrol.yaml"), "settings stay until the package is purged")
	dpkg("--purge", "patrol")
	assert.NoFileExists(t, filepath.Join(where, "etc/patrol/patrol.yaml"))
	assert.FileExists(t, filepath.Join(where, "var/lib/patrol/patrol.db"), "the data stays")
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// called runs a program in a folder, and returns all that it prints.
func called(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
