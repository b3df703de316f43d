package server_test

import (
	"os"
	"testing"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
)

// TestMain lets the test binary be the process that a policy is checked in.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], bundles.Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	sandbox.Replace(testenv.Program())
	testenv.Main(m)
}
