package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/cmd/patrol/standin"
	"patrol/internal/testenv"
)

// TestMain lets the test binary be the program: started under the name patrol it
// does what patrol does, and under the name curl as much of curl as the demo's
// lines ask for.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) { // it is started under the binary's own name
		main()
	}
	switch filepath.Base(os.Args[0]) {
	case "patrol":
		main()
	case "curl":
		os.Exit(curl(os.Args[1:], os.Stdout, os.Stderr))
	}
	sandbox.Replace(testenv.Program())
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // so that children of tests under nohup do not ignore it
	testenv.Main(m)
}

var updateScripts = flag.Bool("update", false, "write what commands print into the scripts that compare it")

// testKeys is a ring for servers that must be given one.
const testKeys = "test:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// patience bounds the time of anything that is not itself under test.
const patience = 90 * time.Second

// TestScripts runs each script in testdata/script by itself.
func TestScripts(t *testing.T) {
	testscript.Run(t, params(t, testscript.Params{Dir: filepath.Join("testdata", "script")}, nil))
}

// TestScriptsOnEachDatabase runs each script in testdata/databases on every
// database.
func TestScriptsOnEachDatabase(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "databases", "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			testenv.EachDatabase(t, func(t *testing.T, url string) {
				t.Helper()
				testscript.Run(t, params(t, testscript.Params{Files: []string{file}}, map[string]string{
					"PATROL_DATABASE_URL": url,
					"PATROL_TOKEN_KEYS":   testKeys,
				}))
			})
		})
	}
}

// TestScriptBehindPgBouncer runs two servers over PgBouncer, with either pool mode.
func TestScriptBehindPgBouncer(t *testing.T) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			cluster := testenv.NewCluster(t)
			url := cluster.URLAt(testenv.PgBouncer(t, cluster, "pool_mode = "+mode))
			testscript.Run(t, params(t, testscript.Params{Files: []string{filepath.Join("testdata", "pooled", "servers.txtar")}}, map[string]string{
				"PATROL_DATABASE_URL": url, "PATROL_TOKEN_KEYS": testKeys,
			}))
		})
	}
}

// params completes the parameters of a run: the program in PATH, an environment
// with nothing of this machine's, and the commands below.
func params(t *testing.T, p testscript.Params, env map[string]string) testscript.Params {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(cmp.Or(testenv.Program(), self), filepath.Join(bin, "patrol")))
	if _, err := exec.LookPath("curl"); err != nil {
		require.NoError(t, os.Symlink(self, filepath.Join(bin, "curl")))
	}
	upstream := httptest.NewServer(standin.Handler(0))
	t.Cleanup(upstream.Close)
	policies, err := filepath.Abs(filepath.Join("..", "..", "policies")) // the default, as a folder
	require.NoError(t, err)
	p.RequireExplicitExec = true
	p.UpdateScripts = *updateScripts
	p.Deadline = time.Now().Add(10 * time.Minute) // a server that should have failed runs on; race detector and busy machines take their time
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "settings"))
		e.Setenv("UPSTREAM", upstream.URL)
		e.Setenv("POLICIES", policies)
		for name, value := range env {
			e.Setenv(name, value)
		}
		e.Values[serversKey{}] = servers{}
		return nil
	}
	p.Condition = func(name string) (bool, error) {
		switch name {
		case "sqlite", "postgres":
			return strings.HasPrefix(env["PATROL_DATABASE_URL"], name), nil
		}
		return false, fmt.Errorf("there is no condition %q", name)
	}
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){
		"serve": serveScript, "shutdown": shutdownScript, "exits": exitsScript, "http": httpScript, "eventually": eventuallyScript,
		"let": letScript, "await": awaitScript, "flip": flipScript, "mode": modeScript, "append": appendScript, "until": untilScript, "signal": signalScript, "certificate": certificateScript,
	}
	return p
}

// servers are the servers that a script has started, by name.
type servers map[string]*running

// running is a server; err is its end, once exited is closed.
type running struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

func (r *running) hasExited() bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}

type serversKey struct{}

func serversOf(ts *testscript.TestScript) servers {
	s, ok := ts.Value(serversKey{}).(servers)
	if !ok {
		ts.Fatalf("the script was not set up")
	}
	return s
}

// serveScript starts `patrol serve` on a free port and waits until it listens:
//
//	serve NAME [ARGUMENT...]
//
// Its log is NAME.log, its standard output NAME.out, its address $URL. With ! it
// waits for the server to fail instead.
func serveScript(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: serve name [argument...]")
	}
	name := args[0]
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(filepath.ListSeparator))[0], "patrol"))
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), path, append([]string{"serve", "--listen", "127.0.0.1:0"}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, variable := range []string{"PATH", "HOME", "TMPDIR", "PATROL_DATABASE_URL", "PATROL_TOKEN_KEYS", "PATROL_TOKEN_KEYS_FILE"} {
		if value := ts.Getenv(variable); value != "" {
			cmd.Env = append(cmd.Env, variable+"="+value)
		}
	}
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	cmd.Stderr, cmd.Stdout = log, out
	ts.Check(cmd.Start())
	ts.Check(errors.Join(log.Close(), out.Close())) // the process has its own
	r := &running{cmd: cmd, exited: make(chan struct{})}
	go func() {
		r.err = cmd.Wait()
		close(r.exited)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have been stopped
		<-r.exited
	})
	serversOf(ts)[name] = r

	listening := regexp.MustCompile(`"msg":"listening".*"url":"([^"]+)"`)
	if !poll(patience, func() bool { return listening.MatchString(ts.ReadFile(name+".log")) || r.hasExited() }) {
		ts.Fatalf("%s does not listen: %s", name, ts.ReadFile(name+".log"))
	}
	written := ts.ReadFile(name + ".log")
	m := listening.FindStringSubmatch(written)
	switch {
	case neg && m == nil:
		fmt.Fprint(ts.Stderr(), written)
	case neg:
		ts.Fatalf("%s listens, and should not", name)
	case m == nil:
		ts.Fatalf("%s failed: %s", name, written)
	default:
		ts.Setenv("URL", m[1])
		ts.Setenv("PATROL_SERVER", m[1])
	}
}

// poll asks for a condition until it holds or time is up.
func poll(limit time.Duration, holds func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			return holds()
		case <-tick.C:
		}
	}
	return true
}

// shutdownScript interrupts a server as Ctrl-C does, and expects status 0:
//
//	shutdown NAME
func shutdownScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 || serversOf(ts)[args[0]] == nil {
		ts.Fatalf("usage: shutdown name")
	}
	signalScript(ts, false, []string{"-ended", "INT", args[0]})
}

// signalScript sends a server a signal; with -ended it waits until the server has ended
// with status 0, too:
//
//	signal [-ended] HUP|INT NAME
func signalScript(ts *testscript.TestScript, _ bool, args []string) {
	ended := len(args) > 0 && args[0] == "-ended"
	if ended {
		args = args[1:]
	}
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "INT": os.Interrupt}
	if len(args) != 2 || signals[args[0]] == nil || serversOf(ts)[args[1]] == nil {
		ts.Fatalf("usage: signal [-ended] HUP|INT name")
	}
	r := serversOf(ts)[args[1]]
	ts.Check(r.cmd.Process.Signal(signals[args[0]]))
	if !ended {
		return
	}
	if !poll(patience, r.hasExited) {
		ts.Fatalf("%s does not stop: %s", args[1], ts.ReadFile(args[1]+".log"))
	}
	if r.err != nil {
		ts.Fatalf("%s did not stop cleanly: %v: %s", args[1], r.err, ts.ReadFile(args[1]+".log"))
	}
}

// httpScript makes a request and expects a status. The answer, head and body, is
// then what `stdout` looks at:
//
//	http STATUS METHOD URL [-H 'Name: value']... [-d BODY]
func httpScript(ts *testscript.TestScript, _ bool, args []string) {
	status, answer, err := send(ts, args)
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), answer)
	if want, _ := strconv.Atoi(args[0]); status != want {
		ts.Fatalf("status %d, not %d:\n%s", status, want, answer)
	}
}

// eventuallyScript is http, again and again for at most so long, until the status is
// right and, if it is given, the answer has what matches the pattern:
//
//	eventually 1s [-match PATTERN] http STATUS METHOD URL ...
func eventuallyScript(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("")
	if len(args) > 3 && args[1] == "-match" {
		pattern = regexp.MustCompile(args[2])
		args = append(args[:1:1], args[3:]...)
	}
	if len(args) < 5 || args[1] != "http" {
		ts.Fatalf("usage: eventually duration [-match pattern] http status method url ...")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	var status int
	var answer string
	if !poll(limit, func() bool {
		status, answer, err = send(ts, args[2:])
		return err == nil && status == want && pattern.MatchString(answer)
	}) {
		ts.Fatalf("after %s still status %d, not %d, or no match: %v\n%s", limit, status, want, err, answer)
	}
	fmt.Fprint(ts.Stdout(), answer)
}

func send(_ *testscript.TestScript, args []string) (status int, answer string, err error) {
	if len(args) < 3 {
		return 0, "", errors.New("usage: http status method url [-H header]... [-d body]")
	}
	req, err := http.NewRequestWithContext(context.Background(), args[1], args[2], nil)
	if err != nil {
		return 0, "", err
	}
	for rest := args[3:]; len(rest) >= 2; rest = rest[2:] {
		setOption(req, rest[0], rest[1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	if err := resp.Header.Write(&b); err != nil {
		return 0, "", err
	}
	b.WriteString("\n")
	_, err = io.Copy(&b, resp.Body)
	return resp.StatusCode, strings.ReplaceAll(b.String(), "\r", "") + "\n", err
}

// setOption carries out one of curl's options.
func setOption(req *http.Request, option, value string) {
	switch option {
	case "-H":
		name, text, _ := strings.Cut(value, ":")
		req.Header.Set(name, strings.TrimSpace(text))
	case "-d":
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(value)), int64(len(value))
	}
}

// curl is as much of curl as the demo's lines need, for machines without it.
func curl(args []string, stdout, stderr io.Writer) int {
	rest, address, method := []string{}, "", "GET"
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-H" || args[i] == "-d":
			if args[i] == "-d" {
				method = "POST"
			}
			rest = append(rest, args[i], args[i+1])
			i++
		case !strings.HasPrefix(args[i], "-"):
			address = args[i]
		}
	}
	_, answer, err := send(nil, append([]string{"0", method, address}, rest...))
	if err != nil {
		fmt.Fprintln(stderr, "curl:", err)
		return 1
	}
	fmt.Fprint(stdout, answer)
	return 0
}

// letScript sets a variable to the first group that a pattern finds in a file, or
// in what the last command printed:
//
//	let NAME FILE PATTERN
func letScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: let name file pattern")
	}
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		ts.Fatalf("%s has no %s:\n%s", args[1], args[2], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], m[1])
}

// flipScript sets a variable to another one's value with its i-th character
// changed, from the end if i is negative:
//
//	flip NAME OTHER I
func flipScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: flip name other i")
	}
	value := []byte(ts.Getenv(args[1]))
	i, err := strconv.Atoi(args[2])
	ts.Check(err)
	if i < 0 {
		i += len(value)
	}
	value[i] ^= 1
	ts.Setenv(args[0], string(value))
}

// modeScript checks the permissions of files:
//
//	mode 0600 FILE...
func modeScript(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, not %s", file, got, args[0])
		}
	}
}

// appendScript adds what is in files to the end of another:
//
//	append FILE MORE...
func appendScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: append file more...")
	}
	content := ts.ReadFile(args[0])
	for _, more := range args[1:] {
		content += ts.ReadFile(more)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(content), 0o600))
}

// exitsScript runs a command and expects an exit status:
//
//	exits STATUS COMMAND [ARGUMENT...]
func exitsScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits status command [argument...]")
	}
	status := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		status = e.ExitCode()
	}
	if want := args[0]; strconv.Itoa(status) != want {
		ts.Fatalf("exit status %d, not %s", status, want)
	}
}

// awaitScript waits until a pattern is found in a file:
//
//	await FILE PATTERN
func awaitScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: await file pattern")
	}
	pattern := regexp.MustCompile(args[1])
	if !poll(patience, func() bool { return pattern.MatchString(ts.ReadFile(args[0])) }) {
		ts.Fatalf("%s still has no %s:\n%s", args[0], args[1], ts.ReadFile(args[0]))
	}
}

// untilScript runs a command again and again until a pattern is found in what it
// prints, for as long as the check of a policy may take on a busy machine:
//
//	until PATTERN COMMAND [ARGUMENT...]
func untilScript(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until pattern command [argument...]")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	if !poll(6*patience, func() bool { return ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) }) {
		ts.Fatalf("still no %s:\n%s", args[0], ts.ReadFile("stdout"))
	}
}
