//go:build unix

package repo_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/config"
)

// TestImage builds the image of examples/compose/Dockerfile and runs it. What stands
// in for the image with Go is this machine's Go and a shell.
func TestImage(t *testing.T) {
	findProgram(t, "buildah")
	shell := findProgram(t, "busybox")
	b := buildah{t: t, storage: t.TempDir()}

	goroot := strings.TrimSpace(output(t, exec.CommandContext(t.Context(), "go", "env", "GOROOT")))
	modules := strings.TrimSpace(output(t, exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE")))
	cache := strings.TrimSpace(output(t, exec.CommandContext(t.Context(), "go", "env", "GOCACHE")))
	builder := b.run("from", "scratch")
	b.run("copy", "--quiet", builder, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	for _, name := range []string{"sh", "mkdir", "ls"} {
		b.run("copy", "--quiet", builder, shell, "/bin/"+name) // it goes by the name that it is called by
	}
	for name, value := range map[string]string{
		"PATH": "/bin:" + goroot + "/bin", "GOROOT": goroot, "GOMODCACHE": modules, "GOCACHE": cache, "GOPROXY": "off", "GOFLAGS": "-mod=readonly", "HOME": "/",
	} {
		b.run("config", "--env", name+"="+value, builder)
	}
	b.run("run", "--isolation", "chroot", builder, "mkdir", "-m", "1777", "/tmp")
	b.run("commit", "--quiet", builder, "localhost/go")

	context, err := filepath.Abs(root)
	require.NoError(t, err)
	mounts := []string{"-v", goroot + ":" + goroot + ":ro", "-v", modules + ":" + modules + ":ro", "-v", cache + ":" + cache}
	b.run(append(append([]string{"bud", "--quiet", "--isolation", "chroot", "--pull-never", "--build-arg", "GO_IMAGE=localhost/go"}, mounts...),
		"-f", filepath.Join(context, "examples", "compose", "Dockerfile"), "-t", "localhost/patrol", context)...)

	// What the image was built from has neither history nor what lies beside the code.
	whole := filepath.Join(t.TempDir(), "Dockerfile")
	require.NoError(t, os.WriteFile(whole, []byte("FROM localhost/go\nCOPY . /src\n"), 0o600))
	b.run("bud", "--quiet", "--pull-never", "-f", whole, "-t", "localhost/context", context)
	built := b.run("from", "--pull-never", "localhost/context")
	listed := strings.Fields(b.run("run", "--isolation", "chroot", built, "ls", "-A", "/src"))
	assert.Contains(t, listed, "go.mod")
	for _, name := range []string{".git", "bin", "data"} {
		assert.NotContains(t, listed, name)
	}

	assert.Contains(t, b.run("inspect", "--type", "image", "--format", "{{.OCIv1.Config.Labels}}", "localhost/patrol"), "org.opencontainers.image.title:Patrol")
	// It runs as nobody in particular, and finds a place for what it keeps for a while.
	patrol := b.run("from", "--pull-never", "localhost/patrol")
	assert.Contains(t, b.run("inspect", "--format", "{{.OCIv1.Config.User}}", patrol), "65532:65532")
	// A policy that has changed is checked in a process and a folder of its own.
	assert.Contains(t, b.run("run", "--isolation", "chroot", patrol, "/patrol", "policy", "init", "/tmp/policy"), "/tmp/policy")
	out := b.run("run", "--isolation", "chroot", "--env", "PATROL_GATE_MEMORY=512MiB", patrol, "/patrol", "policy", "check", "/tmp/policy")
	assert.Contains(t, out, "passed", out)
}

// buildah runs commands of buildah on a storage of the test's own.
type buildah struct {
	t       *testing.T
	storage string
}

func (b buildah) run(args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "buildah", append([]string{
		"--storage-driver", "vfs", "--root", filepath.Join(b.storage, "root"), "--runroot", filepath.Join(b.storage, "run"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot")
	return strings.TrimSpace(output(b.t, cmd))
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s\n%s", cmd, out, stderr.String())
	return string(out)
}

// laterKeys are those of newer versions of systemd, which older ones pass over.
var laterKeys = regexp.MustCompile(`Unknown key '(RestartSteps|RestartMaxDelaySec)'`) // 254

// mostExposed bounds what `systemd-analyze security` makes of the unit, in tenths of its
// points: 0 is a service that reaches nothing, 100 one that reaches all.
const mostExposed = 20

// systemd understands all of the unit, it is what an installation enables, and it leaves the
// server little of the machine.
func TestSystemdUnit(t *testing.T) {
	analyze := findProgram(t, "systemd-analyze")
	program := filepath.Join(buildPatrol(t), "patrol")
	text := read(t, "examples/systemd/patrol.service")
	require.Contains(t, text, "ExecStart=/usr/local/bin/patrol ")
	unit := strings.ReplaceAll(text, "/usr/local/bin/patrol", program)
	file := filepath.Join(t.TempDir(), "patrol.service")
	require.NoError(t, os.WriteFile(file, []byte(unit), 0o600))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput()
	require.NoError(t, err, string(out))
	for line := range strings.Lines(string(out)) {
		if !laterKeys.MatchString(line) {
			assert.NotContains(t, line, file, "a line that systemd does not understand")
		}
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(mostExposed), file).CombinedOutput()
	assert.NoError(t, err, string(out))
	sections := regexp.MustCompile(`(?s)\[Unit\].*\nStartLimitIntervalSec=0\n.*\[Service\].*\nType=notify\n.*\nWatchdogSec=\d+s\n.*\nRestart=on-failure\n.*\nRestartSec=\d+s\n.*\[Install\]\nWantedBy=multi-user.target\n`)
	assert.Regexp(t, sections, unit, "it starts at boot, and does not give up")
	grace := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+s)$`).FindStringSubmatch(unit)
	require.NotNil(t, grace)
	stop, err := time.ParseDuration(grace[1])
	require.NoError(t, err)
	assert.Greater(t, stop, leaves(config.Default()), "it is killed before it has left")
}
