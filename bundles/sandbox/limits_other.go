//go:build !linux

package sandbox

import (
	"os"
	"os/exec"
)

func confine(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }

func wasKilled(*os.ProcessState) bool { return false }

func peak(*os.ProcessState) int64 { return 0 }

// limit does nothing here: the parent's deadline and the garbage collector's limit
// are what bounds a child.
func limit(_, _ int64) error { return nil }

func watchMemory(_ int, _ int64, stop <-chan struct{}, _ func()) { <-stop }

// Enforced reports whether the operating system enforces limits here.
const Enforced = false
