//go:build unix

package repo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Placeholders in documents.
const (
	exampleAddr     = "127.0.0.1:8080"
	exampleUpstream = "http://127.0.0.1:11434"
	exampleDatabase = "postgres://patrol:secret@db.example.com/patrol"
)

// patience is the time that a block may take. The first one compiles the program.
const patience = 10 * time.Minute

func TestCommandsInDocuments(t *testing.T) {
	for _, doc := range documents(t) {
		all := blocks(read(t, doc))
		if !slices.ContainsFunc(all, runs) || strings.HasPrefix(doc, "examples/") { // which TestExamples runs
			continue
		}
		t.Run(doc, func(t *testing.T) {
			if _, err := exec.LookPath("curl"); err != nil {
				testenv.Missing(t, "curl", "it is not in PATH")
			}
			s := newSession(t)
			t.Cleanup(func() { s.onEnd(t, func() {}) })
			for i, b := range all {
				if !runs(b) {
					continue
				}
				var want string
				if i+1 < len(all) && all[i+1].info == "text" {
					want = all[i+1].code
				}
				if !t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) { s.run(t, b, want) }) {
					return // what follows builds on it
				}
			}
		})
	}
}

// TestUnrunCommandsSayWhy keeps the exceptions honest.
func TestUnrunCommandsSayWhy(t *testing.T) {
	for _, doc := range documents(t) {
		for _, b := range blocks(read(t, doc)) {
			language, mark, _ := strings.Cut(b.info, " ")
			assert.NotContains(t, []string{"bash", "shell", "console", "shell-session"}, language, "%s:%d: mark commands with sh", doc, b.line)
			if language != "sh" || mark == "" || mark == "background" {
				continue
			}
			_, why, _ := strings.Cut(mark, "norun: ")
			assert.NotEmpty(t, why, "%s:%d: %q is not a mark", doc, b.line, mark)
		}
	}
}

func runs(b block) bool { return b.info == "sh" || b.info == "sh background" }

// session runs the blocks of one document.
type session struct {
	dir      string // a copy of the repository
	state    string // file with the variables that the last block left
	env      []string
	upstream string        // address of a server that lists no models
	addr     string        // of the server that was started last, "" if none was
	end      func()        // ends that server
	said     func() string // what that server has printed so far
}

func newSession(t *testing.T) *session {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "patrol")
	copyRepository(t, dir)
	home := t.TempDir()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/models" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"object":"list","data":[]}`)
	}))
	t.Cleanup(upstream.Close)
	s := &session{dir: dir, state: filepath.Join(home, "state"), upstream: upstream.URL}
	require.NoError(t, os.WriteFile(s.state, nil, 0o600))
	for _, v := range os.Environ() {
		// The program finds no setting and no credentials of the developer's; the
		// Go tool goes on finding its caches.
		if !strings.HasPrefix(v, "PATROL_") && !strings.HasPrefix(v, "CGO_ENABLED=") && !strings.HasPrefix(v, "MAKE") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env, "PATROL_LISTEN=127.0.0.1:0", "PATROL_CREDENTIALS="+filepath.Join(home, "credentials"), "TERM=dumb")
	return s
}

// copyRepository copies the files of the repository, without what was built or
// made there.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	skip := []string{".git", "bin", "data", "dist"}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains(skip, rel):
			return fs.SkipDir
		case slices.Contains(skip, rel): // .git of a work tree is a file
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, info.Mode().Perm())
	}))
}

// run runs a block and checks what it prints.
func (s *session) run(t *testing.T, b block, want string) {
	t.Helper()
	code := b.code
	if strings.Contains(code, exampleDatabase) {
		code = strings.ReplaceAll(code, exampleDatabase, testenv.Postgres(t))
	}
	code = strings.ReplaceAll(code, exampleUpstream, s.upstream)
	if s.addr != "" {
		code = strings.ReplaceAll(code, exampleAddr, s.addr)
	}
	script := fmt.Sprintf("set -aeuo pipefail; . %s; PATROL_SERVER=http://%s\n%s\n", s.state, s.addr, code)
	if b.info == "sh background" { // when it ends, others have left newer variables
		s.start(t, script, want)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.command(ctx, script+"export -p > "+s.state+"\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s\nthe server said:\n%s", code, out, s.serverSaid())
	assertPrints(t, want, string(out), s.addr)
}

func (s *session) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	// A group of its own, so that what the script started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// start runs a block that goes on, and returns when it has said where it
// listens and has printed what the document shows. It ends with the whole
// document, or when the next server starts.
func (s *session) start(t *testing.T, script, want string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := s.command(ctx, script)
	out := &transcript{}
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, pipe)
		_ = cmd.Wait()
	}()
	s.onEnd(t, func() { stop(); <-done })
	s.said = out.String

	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text := out.String()
		if addr := listening(text); addr != "" && prints(want, text, addr) == "" {
			s.addr = addr
			return
		}
		select {
		case <-done:
			require.FailNow(t, "it ended", out.String())
		case <-deadline:
			require.FailNow(t, "it does not listen, or does not print what it should", "%s\n%s", prints(want, text, listening(text)), text)
		case <-tick.C:
		}
	}
}

// onEnd ends the server that runs, if there is one, and remembers how to end
// the new one.
func (s *session) onEnd(t *testing.T, end func()) {
	t.Helper()
	if s.end != nil {
		s.end()
	}
	s.end = sync.OnceFunc(end)
}

// listening returns the address in the log line that names it, "" if there is
// no such line yet.
func listening(text string) string {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		var entry struct{ Msg, HTTP string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			return entry.HTTP
		}
	}
	return ""
}

func assertPrints(t *testing.T, want, got, addr string) {
	t.Helper()
	if missing := prints(want, got, addr); missing != "" {
		assert.Fail(t, "the document shows what is not printed", "%s\nin\n%s", missing, got)
	}
}

// prints returns the first line of want that is not in got, after the lines
// before it, or "".
func prints(want, got, addr string) string {
	rest := got
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if addr != "" {
			line = strings.ReplaceAll(line, exampleAddr, addr)
		}
		found := false
		for rest != "" && !found {
			var next string
			next, rest, _ = strings.Cut(rest, "\n")
			found = matches(line, next)
		}
		if !found && line != "" && line != "…" {
			return line
		}
	}
	return ""
}

// matches reports whether the parts of pattern between … occur in text in
// order. Runs of spaces count as one.
func matches(pattern, text string) bool {
	text = strings.Join(strings.Fields(text), " ")
	for part := range strings.SplitSeq(strings.Join(strings.Fields(pattern), " "), "…") {
		_, after, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = after
	}
	return true
}

func TestPrints(t *testing.T) {
	const got = "one\n  two  2\nthree at 127.0.0.1:4242\n"
	for _, c := range []struct{ want, missing string }{
		{"", ""},
		{"one\nthree", ""},
		{"two 2", ""},
		{"o…e\n…\nthree at 127.0.0.1:8080", ""},
		{"three\none", "one"},
		{"two 3", "two 3"},
	} {
		assert.Equal(t, c.missing, prints(c.want, got, "127.0.0.1:4242"), c.want)
	}
}

// transcript is output that is read while it is written.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// serverSaid returns what the server that was started last has printed so far.
func (s *session) serverSaid() string {
	if s.said == nil {
		return ""
	}
	return s.said()
}
