package main

import (
	"testing"

	"patrol/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
