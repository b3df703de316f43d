package store_test

import (
	"testing"

	"patrol/internal/testenv"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

func TestConformance(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": testenv.SQLite, "postgres": testenv.Postgres} {
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
