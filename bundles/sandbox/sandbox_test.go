package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
)

// jobs are what the children of this test can do.
var jobs = map[string]sandbox.Job{
	"echo": func(_ context.Context, in json.RawMessage) (any, error) { return in, nil },
	"environment": func(context.Context, json.RawMessage) (any, error) {
		files, err := os.ReadDir(".")
		if err != nil {
			return nil, err
		}
		return map[string]any{"environ": os.Environ(), "files": len(files)}, nil
	},
	"fail":  func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("it is no good") },
	"panic": func(context.Context, json.RawMessage) (any, error) { panic("a defect") },
	"spin": func(context.Context, json.RawMessage) (any, error) {
		for n := 0; ; n++ {
		}
	},
	"wait": func(context.Context, json.RawMessage) (any, error) {
		<-time.After(time.Hour)
		return nil, nil
	},
	"allocate": func(context.Context, json.RawMessage) (any, error) {
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b) //nolint:staticcheck // SA4010: it is kept until the process is killed
		}
	},
	"allocate at once": func(context.Context, json.RawMessage) (any, error) {
		b := make([]byte, 64<<30)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return len(b), nil
	},
	"talk": func(context.Context, json.RawMessage) (any, error) { return strings.Repeat("x", 1<<20), nil },
	"write": func(context.Context, json.RawMessage) (any, error) {
		return nil, os.WriteFile("file", []byte("content"), 0o600)
	},
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
