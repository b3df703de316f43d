package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
)

// jobs are the jobs of this test's child processes.
var jobs = map[string]sandbox.Job{
	"echo": func(_ context.Context, in json.RawMessage, _ io.Reader) (any, error) { return in, nil },
	"environment": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		files, err := os.ReadDir(".")
		if err != nil {
			return nil, err
		}
		return map[string]any{"environ": os.Environ(), "files": len(files)}, nil
	},
	"count": func(_ context.Context, in json.RawMessage, more io.Reader) (any, error) {
		n, err := io.Copy(io.Discard, more)
		return map[string]any{"in": in, "more": n}, err
	},
	"read a little": func(_ context.Context, _ json.RawMessage, more io.Reader) (any, error) {
		_, err := io.ReadFull(more, make([]byte, 10))
		return "enough", err
	},
	"converse": func(_ context.Context, in json.RawMessage, more io.Reader) (any, error) {
		if strings.TrimSpace(string(in)) == `"no"` {
			return nil, errors.New("not with you")
		}
		return sandbox.Stream(func(w io.Writer) error { return converse(w, more) }), nil
	},
	"fail": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		return nil, errors.New("it is no good")
	},
	"panic": func(context.Context, json.RawMessage, io.Reader) (any, error) { panic("a defect") },
	"spin": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		for n := 0; ; n++ {
		}
	},
	"wait": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		<-time.After(time.Hour)
		return nil, nil
	},
	"allocate": func(context.Context, json.RawMessage, io.Reader) (any, error) { return allocate(), nil },
	"allocate at once": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		b := make([]byte, 64<<30)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return len(b), nil
	},
	"talk": func(context.Context, json.RawMessage, io.Reader) (any, error) { return strings.Repeat("x", 1<<20), nil },
	"write": func(context.Context, json.RawMessage, io.Reader) (any, error) {
		return nil, os.WriteFile("file", []byte("content"), 0o600)
	},
}

// allocate takes memory without end.
func allocate() any {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b) //nolint:staticcheck // SA4010: it is kept until the process is killed
	}
}

// converse answers each line: with itself, or as it says.
func converse(w io.Writer, lines io.Reader) error {
	for scan := bufio.NewScanner(lines); scan.Scan(); {
		switch scan.Text() {
		case "spin":
			for n := 0; ; n++ {
			}
		case "allocate":
			allocate()
		case "exit":
			os.Exit(7)
		case "fail":
			return errors.New("it is no good")
		case "talk":
			_, _ = w.Write(bytes.Repeat([]byte("x"), 2<<20))
		}
		if _, err := fmt.Fprintln(w, scan.Text()); err != nil {
			return err
		}
	}
	return nil
}

func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], jobs, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func run(t *testing.T, limits sandbox.Limits, job string, in, out any) error {
	t.Helper()
	r, err := sandbox.New(limits)
	require.NoError(t, err)
	return r.Run(t.Context(), job, in, out)
}

func TestAnswers(t *testing.T) {
	in, out := map[string]string{"a": strings.Repeat("long ", 100_000)}, map[string]string{}
	require.NoError(t, run(t, sandbox.Limits{}, "echo", in, &out))
	assert.Equal(t, in, out)
}

func TestNothingOfTheParentsIsThere(t *testing.T) {
	t.Setenv("PATROL_TOKEN_KEYS", "k1:secret")
	var out struct {
		Environ []string
		Files   int
	}
	require.NoError(t, run(t, sandbox.Limits{}, "environment", nil, &out))
	assert.Zero(t, out.Files)
	for _, entry := range out.Environ {
		name, _, _ := strings.Cut(entry, "=")
		assert.Contains(t, []string{"GOMEMLIMIT", "GOMAXPROCS", "GOTRACEBACK", "TMPDIR"}, name)
	}
}

func TestFailures(t *testing.T) {
	var job *sandbox.JobError
	require.ErrorAs(t, run(t, sandbox.Limits{}, "fail", nil, nil), &job)
	assert.Equal(t, "it is no good", job.Message)
	require.ErrorContains(t, run(t, sandbox.Limits{}, "panic", nil, nil), "panic: a defect")
	require.ErrorContains(t, run(t, sandbox.Limits{}, "no such job", nil, nil), "no such job")
}

// TestFeed gives children more than is in their input, and holds that what goes wrong
// on either side is told, and ends the other one.
func TestFeed(t *testing.T) {
	const bound = 64 << 20
	broken := errors.New("the database is away")
	ended := make(chan error, 1)
	// write writes up to n bytes, and what came of it to ended.
	write := func(n int, last error) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) (err error) {
			defer func() { ended <- err }()
			part := make([]byte, 100_000)
			for ; n > 0; n -= len(part) {
				if _, err := w.Write(part); err != nil {
					return err
				}
			}
			return last
		}
	}
	for name, c := range map[string]struct {
		job   string
		feed  func(context.Context, io.Writer) error
		check func(t *testing.T, answer json.RawMessage, err error)
	}{
		"all of it is read": {"count", write(20_000_000, nil), func(t *testing.T, answer json.RawMessage, err error) {
			require.NoError(t, err)
			assert.JSONEq(t, `{"in": {"n": 1}, "more": 20000000}`, string(answer))
			require.NoError(t, <-ended)
		}},
		"nothing more": {"count", nil, func(t *testing.T, answer json.RawMessage, err error) {
			require.NoError(t, err)
			assert.JSONEq(t, `{"in": {"n": 1}, "more": 0}`, string(answer))
		}},
		"a child that has seen enough": {"read a little", write(bound, nil), func(t *testing.T, answer json.RawMessage, err error) {
			require.NoError(t, err)
			assert.JSONEq(t, `"enough"`, string(answer))
			require.Error(t, <-ended)
		}},
		"a child that fails": {"fail", write(bound, nil), func(t *testing.T, _ json.RawMessage, err error) {
			require.EqualError(t, err, "it is no good")
			require.Error(t, <-ended)
		}},
		"a feeder that fails": {"count", write(20_000_000, broken), func(t *testing.T, answer json.RawMessage, err error) {
			require.ErrorIs(t, err, broken)
			assert.Nil(t, answer)
			require.ErrorIs(t, <-ended, broken)
		}},
		"a child that hangs": {"wait", func(ctx context.Context, _ io.Writer) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}, func(t *testing.T, _ json.RawMessage, err error) {
			var limit *sandbox.LimitError
			require.ErrorAs(t, err, &limit)
			assert.Equal(t, sandbox.Wall, limit.Resource)
			require.Error(t, <-ended)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			limits := sandbox.Limits{Wall: time.Minute}
			if c.job == "wait" {
				limits.Wall = 300 * time.Millisecond
			}
			r, err := sandbox.New(limits)
			require.NoError(t, err)
			var answer json.RawMessage
			err = r.Feed(t.Context(), c.job, map[string]int{"n": 1}, c.feed, &answer)
			c.check(t, answer, err)
		})
	}
}

func TestLimits(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	small := sandbox.Limits{Memory: 256 << 20, CPU: time.Second, Wall: 30 * time.Second, Output: 1 << 10}
	short := small
	short.Wall = 300 * time.Millisecond
	for job, c := range map[string]struct {
		limits sandbox.Limits
		want   sandbox.Resource
		says   string
	}{
		"spin":             {small, sandbox.CPU, "more than 1s of CPU time"},
		"wait":             {short, sandbox.Wall, "longer than 300ms"},
		"allocate":         {small, sandbox.Memory, "more than 256 MiB of memory"},
		"allocate at once": {small, sandbox.Memory, "more than 256 MiB of memory"},
		"talk":             {small, sandbox.Output, "larger than 1 KiB"},
	} {
		t.Run(job, func(t *testing.T) {
			begin := time.Now()
			var limit *sandbox.LimitError
			err := run(t, c.limits, job, nil, nil)
			require.ErrorAs(t, err, &limit, "%v", err)
			assert.Equal(t, c.want, limit.Resource)
			assert.ErrorContains(t, err, c.says)
			assert.Less(t, time.Since(begin), 20*time.Second)
		})
	}
	assert.Error(t, run(t, small, "write", nil, nil), "it writes no files")
}

func TestContextEnds(t *testing.T) {
	r, err := sandbox.New(sandbox.Limits{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Run(ctx, "wait", nil, nil), context.DeadlineExceeded)
}

// open starts a session that converses.
func open(t *testing.T, limits sandbox.Limits) *sandbox.Session {
	t.Helper()
	r, err := sandbox.New(limits)
	require.NoError(t, err)
	s, err := r.Open(t.Context(), "converse", "hello")
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, s *sandbox.Session, line string) (string, error) {
	t.Helper()
	_, err := s.Write([]byte(line + "\n"))
	require.NoError(t, err)
	if err := s.Flush(); err != nil {
		return "", err
	}
	answer, err := s.ReadLine()
	return strings.TrimSpace(string(answer)), err
}

func TestASessionIsAskedAgainAndAgain(t *testing.T) {
	s := open(t, sandbox.Limits{})
	for i := range 1000 {
		answer, err := ask(t, s, fmt.Sprint("question ", i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("question ", i), answer)
	}
}

func TestHowASessionEnds(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	for line, check := range map[string]func(*testing.T, error){
		"allocate": func(t *testing.T, err error) {
			var limit *sandbox.LimitError
			require.ErrorAs(t, err, &limit)
			assert.Equal(t, sandbox.Memory, limit.Resource)
		},
		"talk": func(t *testing.T, err error) {
			var limit *sandbox.LimitError
			require.ErrorAs(t, err, &limit)
			assert.Equal(t, sandbox.Output, limit.Resource)
		},
		"exit": func(t *testing.T, err error) {
			var crash *sandbox.CrashError
			require.ErrorAs(t, err, &crash)
		},
		"fail": func(t *testing.T, err error) {
			var failed *sandbox.JobError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, "it is no good", failed.Message)
		},
	} {
		t.Run(line, func(t *testing.T) {
			s := open(t, sandbox.Limits{Memory: 256 << 20})
			_, err := ask(t, s, "first")
			require.NoError(t, err)
			_, err = ask(t, s, line)
			check(t, err)
			_, err = s.ReadLine()
			check(t, err)
		})
	}
	t.Run("late", func(t *testing.T) {
		s := open(t, sandbox.Limits{})
		late := time.AfterFunc(200*time.Millisecond, func() { s.Late(200 * time.Millisecond) })
		defer late.Stop()
		_, err := ask(t, s, "spin")
		var limit *sandbox.LimitError
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, "it takes longer than 200ms", limit.Error())
	})
	t.Run("with its context", func(t *testing.T) {
		r, err := sandbox.New(sandbox.Limits{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := r.Open(ctx, "converse", "hello")
		require.NoError(t, err)
		defer s.Close()
		cancel()
		_, err = s.ReadLine()
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("before it begins", func(t *testing.T) {
		r, err := sandbox.New(sandbox.Limits{})
		require.NoError(t, err)
		s, err := r.Open(t.Context(), "converse", "no")
		if err == nil {
			defer s.Close()
			_, err = s.ReadLine()
		}
		require.ErrorContains(t, err, "not with you")
	})
}
