package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/internal/testenv"
)

// patrol runs the program in this process, and returns its exit status and what it
// printed.
func patrol(t testing.TB, args ...string) (status int, printed string) {
	t.Helper()
	var out bytes.Buffer
	p := &process{name: "patrol", args: args, stdin: strings.NewReader(""), stdout: &out, stderr: &out}
	status = p.run(t.Context())
	return status, out.String()
}

func newStarter(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "deep", "policy")
	status, printed := patrol(t, "policy", "init", folder)
	require.Zero(t, status, printed)
	return folder
}

func write(t testing.TB, folder, name, content string) {
	t.Helper()
	path := filepath.Join(folder, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func contentOf(t testing.TB, parts ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return string(content)
}

// TestInitPasses holds that what is written passes as it stands, and still does with the
// rule and the test that its README shows.
func TestInitPasses(t *testing.T) {
	folder := newStarter(t)
	status, printed := patrol(t, "policy", "check", folder, "--min-coverage", "100")
	require.Zero(t, status, printed)

	shown := regexp.MustCompile("(?s)`(custom/\\w+\\.rego)`:\n\n```rego\n(.*?)```").FindAllStringSubmatch(contentOf(t, folder, "README.md"), -1)
	require.Len(t, shown, 2)
	for _, file := range shown {
		write(t, folder, file[1], file[2])
	}
	status, printed = patrol(t, "policy", "check", folder, "--min-coverage", "100")
	assert.Zero(t, status, printed)
	status, printed = patrol(t, "policy", "fmt", folder, "--diff")
	assert.Zero(t, status, printed)
	status, printed = patrol(t, "policy", "diff", "embedded", folder)
	assert.Equal(t, 1, status)
	assert.Contains(t, printed, "+ weekend")
}

// TestInitIsWholeOrNothing holds that a folder with something in it is left as it is,
// and that a failure leaves nothing behind.
func TestInitIsWholeOrNothing(t *testing.T) {
	files := func(folder string) (names []string) {
		_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, strings.TrimPrefix(path, folder))
			}
			return nil
		})
		return names
	}
	full := t.TempDir()
	write(t, full, "notes.txt", "mine")
	status, printed := patrol(t, "policy", "init", full)
	assert.Equal(t, statusError, status)
	assert.Contains(t, printed, "the folder is not empty, it has notes.txt")
	assert.Equal(t, []string{"/notes.txt"}, files(full))

	status, printed = patrol(t, "policy", "init", filepath.Join(full, "notes.txt"))
	assert.Equal(t, statusError, status, printed)
	status, printed = patrol(t, "policy", "init", "")
	assert.Equal(t, statusError, status, printed)

	repository := t.TempDir()
	write(t, repository, ".git/HEAD", "ref: refs/heads/main")
	status, printed = patrol(t, "policy", "init", repository)
	require.Zero(t, status, printed)
	assert.Contains(t, files(repository), "/.git/HEAD")
	assert.Contains(t, files(repository), "/.gitlab-ci.yml")
	assert.NotContains(t, files(repository), "/starter")

	// If the last file cannot be written, none is.
	good := starterFiles["README.md"]
	t.Cleanup(func() { starterFiles["README.md"] = good })
	starterFiles["README.md"] = "../outside.md"
	for _, name := range []string{"new", "empty"} {
		folder := filepath.Join(t.TempDir(), name)
		if name == "empty" {
			require.NoError(t, os.Mkdir(folder, 0o700))
		}
		require.Error(t, writeStarter(folder))
		assert.Empty(t, files(filepath.Dir(folder)), name)
		_, err := os.Stat(folder)
		assert.Equal(t, name == "empty", err == nil, "%s is there as it was", name)
	}
}

// ciSystem runs the CI files of a starter: a repository with a
// main branch, a change on another branch, and the program where it is downloaded.
type ciSystem struct {
	*testing.T
	folder    string // the working copy
	env       map[string]string
	published *[]byte // what was uploaded
	auth      *string // with which credential
	publicKey string  // file
}

func newCI(t *testing.T) *ciSystem {
	t.Helper()
	for _, program := range []string{"git", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Missing(t, program, "it is not in PATH")
		}
	}
	self, err := os.Executable()
	require.NoError(t, err)
	served := filepath.Join(t.TempDir(), "patrol")
	content, err := os.ReadFile(cmp.Or(testenv.Program(), self))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(served, content, 0o600)) // as downloads are: not to be run
	sum := sha256.Sum256(content)

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	keys := t.TempDir()
	write(t, keys, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	write(t, keys, "public.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))

	c := &ciSystem{T: t, folder: filepath.Join(t.TempDir(), "clone"), published: new([]byte), auth: new(string), publicKey: filepath.Join(keys, "public.pem")}
	packages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a test fails below if it is cut
		if r.Method == http.MethodPut && r.URL.Path == "/projects/7/packages/generic/policy/v1/policy.tar.gz" {
			*c.published, *c.auth = body, r.Header.Get("Job-Token")
			w.WriteHeader(http.StatusCreated)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(packages.Close)
	c.env = map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "TMPDIR": t.TempDir(), "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
		"PATROL_URL": "file://" + served, "PATROL_SHA256": hex.EncodeToString(sum[:]), "KEY_ID": "release", "KEY_ALGORITHM": "RS256",
		"CI_COMMIT_TAG": "v1", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_API_V4_URL": packages.URL, "CI_PROJECT_ID": "7", "CI_JOB_TOKEN": "job-token",
		"SIGNING_KEY": filepath.Join(keys, "private.pem"), // GitLab: of type File
	}
	origin := newStarter(t)
	_, err = c.bash(origin, "git init -q -b main . && git add -A && git commit -q -m Begin && git clone -q . "+c.folder)
	require.NoError(t, err)
	_, err = c.bash(c.folder, `git checkout -q -b change && printf 'guest:\n  models: {read: true}\n' >> patrol/roles/data.yaml && git commit -q -a -m Change`)
	require.NoError(t, err)
	return c
}

// bash runs a script as CI systems do: the first failure ends it.
func (c *ciSystem) bash(folder, script string) (string, error) {
	cmd := exec.CommandContext(c.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir = folder
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// signed holds that an archive is what the release job must make.
func (c *ciSystem) signed(archive string) {
	c.Helper()
	status, printed := patrol(c, "policy", "verify", archive, "--key", "release:RS256:"+c.publicKey)
	assert.Zero(c, status, printed)
	assert.Contains(c, printed, "revision v1,")
}

// githubJob is a job of a workflow, as far as it is run here.
type githubJob struct {
	If    string `json:"if"`
	Steps []struct {
		Name string            `json:"name"`
		Uses string            `json:"uses"`
		If   string            `json:"if"`
		Run  string            `json:"run"`
		Env  map[string]string `json:"env"`
	} `json:"steps"`
}

var expression = regexp.MustCompile(`\$\{\{ *([\w.]+) *\}\}`)

// github runs the steps of a job. holds are the conditions that hold.
func (c *ciSystem) github(job githubJob, values map[string]string, holds ...string) (string, error) {
	c.Helper()
	var printed strings.Builder
	temp := c.TempDir()
	path, summary := filepath.Join(temp, "path"), filepath.Join(temp, "summary")
	c.env["RUNNER_TEMP"], c.env["GITHUB_PATH"], c.env["GITHUB_STEP_SUMMARY"] = temp, path, summary
	base := c.env["PATH"]
	defer func() { c.env["PATH"] = base }()
	for _, step := range job.Steps {
		if step.Run == "" {
			assert.Contains(c, []string{"actions/checkout@v4", "actions/upload-artifact@v4"}, step.Uses)
			continue
		}
		if step.If != "" && !slices.Contains(holds, step.If) {
			continue
		}
		assert.NotContains(c, step.Run, "${{", "%s: values come through the environment, so that they are not taken for commands", step.Name)
		for name, value := range step.Env {
			c.env[name] = expression.ReplaceAllStringFunc(value, func(text string) string {
				known, ok := values[expression.FindStringSubmatch(text)[1]]
				assert.True(c, ok, "%s is not known", text)
				return known
			})
		}
		out, err := c.bash(c.folder, step.Run)
		printed.WriteString(out)
		if err != nil {
			return printed.String(), err
		}
		if added, err := os.ReadFile(path); err == nil {
			c.env["PATH"] = strings.ReplaceAll(strings.TrimSpace(string(added)), "\n", ":") + ":" + base
		}
	}
	told, err := os.ReadFile(summary)
	if err == nil {
		printed.Write(told)
	}
	return printed.String(), nil
}

// whatChanged is the text of a diff for the change that the tests make.
const whatChanged = "+ guest models/read"

// TestInitGitHub runs the commands of the workflow that a starter has.
func TestInitGitHub(t *testing.T) {
	c := newCI(t)
	var workflow struct {
		Jobs map[string]githubJob `json:"jobs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(contentOf(t, c.folder, ".github/workflows/policy.yml")), &workflow))
	require.Len(t, workflow.Jobs, 2)

	c.env["GITHUB_BASE_REF"] = "main"
	printed, err := c.github(workflow.Jobs["check"], nil, "github.event_name == 'pull_request'")
	require.NoError(t, err, printed)
	assert.Contains(t, printed, "the policy passes")
	assert.Contains(t, printed, "```\nbefore ")
	assert.Contains(t, printed, whatChanged)
	assert.FileExists(t, filepath.Join(c.folder, "report.xml"))

	assert.Equal(t, "startsWith(github.ref, 'refs/tags/v')", workflow.Jobs["release"].If)
	write(t, c.env["HOME"], "bin/gh", "#!/bin/sh\necho gh \"$@\"\n")
	require.NoError(t, os.Chmod(filepath.Join(c.env["HOME"], "bin", "gh"), 0o700))
	c.env["PATH"] = filepath.Join(c.env["HOME"], "bin") + ":" + c.env["PATH"]
	c.env["GITHUB_REF_NAME"] = "v1"
	private := contentOf(t, c.env["SIGNING_KEY"])
	printed, err = c.github(workflow.Jobs["release"], map[string]string{
		"secrets.SIGNING_KEY": strings.TrimSpace(private), "vars.KEY_ID": "release", "vars.KEY_ALGORITHM": "RS256", "github.token": "job-token",
	})
	require.NoError(t, err, printed)
	assert.Contains(t, printed, "gh release create v1 policy.tar.gz ")
	assert.NotContains(t, printed, "PRIVATE KEY")
	assert.NoFileExists(t, filepath.Join(c.env["RUNNER_TEMP"], "signing.key"))
	c.signed(filepath.Join(c.folder, "policy.tar.gz"))

	c.refuses(func() (string, error) { return c.github(workflow.Jobs["check"], nil) })
}

// refuses holds that CI fails for a policy that does not pass, and for another program
// than was meant.
func (c *ciSystem) refuses(run func() (string, error)) {
	c.Helper()
	write(c, c.folder, "custom/custom.rego", "# METADATA\n# schemas:\n#   - input: schema.authz_input\npackage patrol.custom\n\nreason if input.nothing.of.the.kind\n")
	printed, err := run()
	require.Error(c, err, "%s", printed)
	assert.Contains(c, printed, "undefined ref: input.nothing")
	c.env["PATROL_SHA256"] = strings.Repeat("0", 64)
	printed, err = run()
	require.Error(c, err, "%s", printed)
	assert.Contains(c, printed, "FAILED")
}

// TestInitGitLab runs the commands of the pipeline that a starter has.
func TestInitGitLab(t *testing.T) {
	c := newCI(t)
	type job struct {
		Stage  string   `json:"stage"`
		Script []string `json:"script"`
		Rules  []struct {
			If string `json:"if"`
		} `json:"rules"`
		Artifacts map[string]any `json:"artifacts"`
	}
	var pipeline struct {
		Workflow map[string]any `json:"workflow"`
		Stages   []string       `json:"stages"`
		Default  struct {
			Image  string   `json:"image"`
			Before []string `json:"before_script"`
		} `json:"default"`
		Check   job `json:"check"`
		Changes job `json:"changes"`
		Release job `json:"release"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(contentOf(t, c.folder, ".gitlab-ci.yml")), &pipeline))
	run := func(j job) (string, error) {
		assert.Contains(t, pipeline.Stages, j.Stage)
		require.NotEmpty(t, j.Script)
		return c.bash(c.folder, strings.Join(slices.Concat(pipeline.Default.Before, j.Script), "\n"))
	}
	printed, err := run(pipeline.Check)
	require.NoError(t, err, printed)
	assert.Contains(t, printed, "the policy passes")
	assert.FileExists(t, filepath.Join(c.folder, "report.xml"))

	printed, err = run(pipeline.Changes)
	require.NoError(t, err, printed)
	assert.Contains(t, printed, whatChanged)

	printed, err = run(pipeline.Release)
	require.NoError(t, err, printed)
	assert.Equal(t, "job-token", *c.auth)
	assert.NotContains(t, printed, "job-token")
	require.NotEmpty(t, *c.published)
	published := filepath.Join(t.TempDir(), "published.tar.gz")
	require.NoError(t, os.WriteFile(published, *c.published, 0o600))
	c.signed(published)

	c.refuses(func() (string, error) { return run(pipeline.Check) })
}
