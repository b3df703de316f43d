package server_test

import (
	"testing"

	"patrol/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
