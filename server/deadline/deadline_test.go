package deadline_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/deadline"
)

var limits = deadline.Limits{Timeout: 150 * time.Millisecond, Margin: 20 * time.Millisecond, MaxInFlight: 2}

func gate() *deadline.Gate { return deadline.NewGate(limits, func(any, []byte) {}) }

// bubble runs test on a clock of its own, and ends when no goroutine waits for more
// work.
func bubble(t *testing.T, test func(*testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		test(t)
		<-time.After(time.Hour)
	})
}

func TestDoReturnsWhatTheWorkReturns(t *testing.T) {
	got, err := deadline.Do(t.Context(), gate(), func(context.Context) string { return "yes" })
	require.NoError(t, err)
	assert.Equal(t, "yes", got)
}

func TestDoAnswersInTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline time.Duration // of the caller; 0: none
		within   time.Duration
	}{
		{"no deadline", 0, 150 * time.Millisecond},
		{"a late deadline", time.Second, 150 * time.Millisecond},
		{"an early deadline", 100 * time.Millisecond, 80 * time.Millisecond},
		{"a very early deadline", 21 * time.Millisecond, time.Millisecond},
		{"a deadline within the margin", 20 * time.Millisecond, 0},
		{"a deadline that is over", -time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if c.deadline != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				release := make(chan struct{})
				start := time.Now()
				_, err := deadline.Do(ctx, gate(), func(context.Context) int { <-release; return 1 })
				require.ErrorIs(t, err, deadline.ErrTimeout)
				assert.LessOrEqual(t, time.Since(start), c.within)
				close(release)
			})
		})
	}
}

func TestDoPrefersTheAnswerOfWorkThatNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		got, err := deadline.Do(t.Context(), gate(), func(ctx context.Context) string {
			<-ctx.Done()
			return "I was too slow"
		})
		require.NoError(t, err)
		assert.Equal(t, "I was too slow", got)
	})
}

func TestDoRefusesMoreThanItsPlaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := gate()
		release := make(chan struct{})
		for range limits.MaxInFlight {
			_, err := deadline.Do(t.Context(), g, func(context.Context) int { <-release; return 1 })
			require.ErrorIs(t, err, deadline.ErrTimeout) // given up, not over
		}
		assert.Equal(t, limits.MaxInFlight, g.InFlight())
		start := time.Now()
		_, err := deadline.Do(t.Context(), g, func(context.Context) int { return 1 })
		require.ErrorIs(t, err, deadline.ErrOverload)
		assert.Zero(t, time.Since(start))

		close(release)
		synctest.Wait()
		assert.Zero(t, g.InFlight())
		_, err = deadline.Do(t.Context(), g, func(context.Context) int { return 1 })
		assert.NoError(t, err)
	})
}

func TestAQuarterIsForThoseWhoAreKnown(t *testing.T) {
	known := map[bool]func() bool{true: func() bool { return true }, false: func() bool { return false }}
	for limit, open := range map[int]int{1: 1, 3: 3, 4: 3, 100: 75} {
		bubble(t, func(t *testing.T) {
			g := deadline.NewGate(deadline.Limits{Timeout: 150 * time.Millisecond, MaxInFlight: limit}, func(any, []byte) {})
			release := make(chan struct{})
			defer close(release)
			fill := func(known func() bool) error {
				_, err := deadline.DoFor(t.Context(), g, known, func(context.Context) int { <-release; return 1 })
				return err
			}
			for range open {
				require.ErrorIs(t, fill(known[false]), deadline.ErrTimeout)
			}
			require.ErrorIs(t, fill(known[false]), deadline.ErrOverload)
			for range limit - open {
				require.ErrorIs(t, fill(known[true]), deadline.ErrTimeout)
			}
			require.ErrorIs(t, fill(known[true]), deadline.ErrOverload)
		})
	}
}

func TestDoSurvivesWhatTheWorkDoes(t *testing.T) {
	for name, work := range map[string]func(context.Context) int{
		"panic":  func(context.Context) int { panic("a defect") },
		"goexit": func(context.Context) int { runtime.Goexit(); return 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var told []any
			var stack string
			g := deadline.NewGate(limits, func(value any, s []byte) { told, stack = append(told, value), string(s) })
			_, err := deadline.Do(t.Context(), g, work)
			require.ErrorIs(t, err, deadline.ErrPanic)
			require.Len(t, told, 1)
			assert.Contains(t, stack, "deadline_test", "the stack leads to the defect")
			assert.Eventually(t, func() bool { return g.InFlight() == 0 }, 10*time.Second, time.Millisecond)
		})
	}
}

func TestLimitsValidate(t *testing.T) {
	require.NoError(t, limits.Validate())
	for name, spoil := range map[string]func(*deadline.Limits){
		"timeout":   func(l *deadline.Limits) { l.Timeout = 0 },
		"margin":    func(l *deadline.Limits) { l.Margin = -1 },
		"in flight": func(l *deadline.Limits) { l.MaxInFlight = 0 },
	} {
		l := limits
		spoil(&l)
		assert.Error(t, l.Validate(), name)
	}
}

// BenchmarkDo does work that needs a deep stack, as policies do.
func BenchmarkDo(b *testing.B) {
	g := gate()
	for b.Loop() {
		if _, err := deadline.Do(b.Context(), g, func(context.Context) int { return deep(200) }); err != nil {
			b.Fatal(err)
		}
	}
}

//go:noinline
func deep(n int) int {
	var frame [16]int
	if n > 0 {
		frame[n%16] = deep(n - 1)
	}
	return frame[n%16] + 1
}
