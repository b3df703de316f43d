package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(lockHolder) != "" {
		holdMigrationLock()
	}
	testenv.Main(m)
}

func TestConformance(t *testing.T) {
	for name, url := range databases {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) storetest.Opener {
				url := url(t)
				return func(t testing.TB, edit ...func(*store.Config)) *store.Store {
					t.Helper()
					return storetest.New(t, url, edit...)
				}
			})
		})
	}
}

// lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLogHoldsStatementsAndNoValues(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		var log lockedBuffer
		ctx := context.Background()
		s := storetest.New(t, url, func(c *store.Config) {
			c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			c.SlowQuery = time.Nanosecond
		})
		u, err := s.CreateUser(ctx, models.Actor{IP: "secret-ip"}, models.User{Email: "secret-address@example.org", PasswordHash: "secret-hash"})
		require.NoError(t, err)
		p := benchPAT(u.ID, "secret-name")
		p.MAC = []byte("secret-mac")
		_, err = s.CreatePAT(ctx, models.Actor{}, p)
		require.NoError(t, err)
		_, err = s.CreatePAT(ctx, models.Actor{}, p)
		require.Error(t, err)
		_, err = s.UserByEmail(ctx, "secret-address@example.org")
		require.NoError(t, err)

		text := log.String()
		assert.NotContains(t, text, "secret")
		assert.NotContains(t, text, "7365637265742d6d6163", "the hash in hex")
		assert.Contains(t, text, `"slow query"`)
		assert.Contains(t, text, "SELECT * FROM users WHERE email = ")
	})
}

func TestOnQueryHearsOfEveryOperation(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		var mu sync.Mutex
		var heard []string
		s := storetest.New(t, url, func(c *store.Config) {
			c.OnQuery = func(op string, d time.Duration, err error) {
				mu.Lock()
				defer mu.Unlock()
				assert.Positive(t, d)
				heard = append(heard, strings.TrimSpace(op+" "+string(models.CodeOf(err))))
			}
		})
		heard = nil
		ctx := context.Background()
		_, err := s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
		require.NoError(t, err)
		_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
		require.Error(t, err)
		_, err = s.Domain(ctx, "acme")
		require.NoError(t, err)
		require.NoError(t, s.Ping(ctx))
		assert.Equal(t, []string{"create_domain", "create_domain already_taken", "domain", "ping"}, heard)
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		before := goleak.IgnoreCurrent()
		s, err := store.Open(t.Context(), store.Config{URL: url})
		require.NoError(t, err)
		_, _, err = s.Migrate(t.Context())
		require.NoError(t, err)
		_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
		require.NoError(t, err)
		_, _, err = s.DataVersion(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		goleak.VerifyNone(t, before)
		_, err = s.Domain(t.Context(), "acme")
		require.Error(t, err)
	})
}

func TestPanickingListenerOrCallerLeavesTheStoreUsable(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		s := storetest.New(t, url)
		panics := true
		s.OnChange(func([]store.Change) {
			if panics {
				panic("listener")
			}
		})
		require.PanicsWithValue(t, "listener", func() {
			_, _ = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
		})
		panics = false
		_, err := s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "beta"})
		require.NoError(t, err)
		d, err := s.Domain(t.Context(), "acme")
		require.NoError(t, err)
		assert.NotNil(t, d, "it was committed before the listeners heard of it")
	})
}

func TestConfigIsValidated(t *testing.T) {
	const secret = "hunter2"
	for _, c := range []struct {
		name   string
		config store.Config
		want   string // "" for valid
		// onlyOpen says that it takes the driver to find out.
		onlyOpen bool
	}{
		{"sqlite, absolute", store.Config{URL: "sqlite:///var/lib/patrol.db"}, "", false},
		{"sqlite, relative", store.Config{URL: "sqlite://data/patrol.db"}, "", false},
		{"postgres", store.Config{URL: "postgres://patrol:" + secret + "@db/patrol?sslmode=disable"}, "", false},
		{"postgresql", store.Config{URL: "postgresql:///patrol?host=/run/postgresql"}, "", false},
		{"nothing", store.Config{}, "the database URL is empty", false},
		{"no scheme", store.Config{URL: "host=db password=" + secret}, "has no scheme", false},
		{"other scheme", store.Config{URL: "mysql://patrol:" + secret + "@db/patrol"}, "scheme of the database URL is not known", false},
		{"password as scheme", store.Config{URL: secret + "://x"}, "scheme of the database URL is not known", false},
		{"no path", store.Config{URL: "sqlite://"}, "must be followed by the path of a file", false},
		{"a folder", store.Config{URL: "sqlite:///var/lib/"}, "must be followed by the path of a file", false},
		{"memory", store.Config{URL: "sqlite://:memory:"}, "name a file", false},
		{"NUL", store.Config{URL: "sqlite:///a\x00b"}, "NUL", false},
		{"bad escape in the password", store.Config{URL: "postgres://patrol:" + secret + "%zz@db/patrol"}, "must be percent-encoded", false},
		{"slash in the password", store.Config{URL: "postgres://patrol:" + secret + "/@db/patrol"}, "must be percent-encoded", false},
		{"bad parameter", store.Config{URL: "postgres://patrol:" + secret + "@db/patrol?sslmode=sometimes"}, "sslmode", true},
		{"bad parameters", store.Config{URL: "postgres://db/patrol?password=" + secret + "%zz"}, "parameters of the database URL cannot be read", true},
		{"negative", store.Config{URL: "sqlite://a", MaxConns: -1}, "max conns must not be negative", false},
		{"negative limit", store.Config{URL: "sqlite://a", Limits: models.Limits{MaxLive: -1}}, "live tokens must not be negative", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			if c.want == "" {
				assert.NoError(t, err)
				return
			}
			if !c.onlyOpen {
				require.ErrorContains(t, err, c.want)
				assert.NotContains(t, err.Error(), secret)
			}
			_, err = store.Open(t.Context(), c.config)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

func TestContextErrorsStayInTheChain(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		s := storetest.New(t, url)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the client went away"))
		for name, op := range map[string]func() error{
			"read":    func() error { _, err := s.Domain(ctx, "acme"); return err },
			"write":   func() error { return s.Audit(ctx, models.Actor{}, "a", "s", nil) },
			"session": func() error { return s.Sessions().DeleteCtx(ctx, "t") },
			"version": func() error { _, ok, err := s.DataVersion(ctx); return errors.Join(err, unless(ok, err)) },
			"migrate": func() error { _, _, err := s.Migrate(ctx); return err },
			"check":   func() error { return s.CheckSchema(ctx) },
		} {
			err := op()
			require.ErrorIs(t, err, context.Canceled, name)
			assert.Equal(t, models.CodeUnavailable, models.CodeOf(err), name)
		}
	})
}

// unless stands in for the error of what a database does not have.
func unless(ok bool, err error) error {
	if !ok && err == nil {
		return models.WrapError(models.CodeUnavailable, "there is none", context.Canceled)
	}
	return nil
}
