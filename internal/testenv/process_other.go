//go:build !linux

package testenv

import "syscall"

// unprivileged returns how to start PostgreSQL: as the user that runs the
// tests.
func unprivileged(...string) (*syscall.SysProcAttr, error) { return nil, nil }
