package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// check runs what is quick to know about a change: format, lint, vet, and the tests of
// the packages in which something changed since base, without the race detector.
func (r runner) check(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(r.errors)
	base := flags.String("base", "", "commit to compare with; default: where this branch left main, or the last commit on main itself")
	lint := flags.String("golangci-lint", "bin/golangci-lint", "path of golangci-lint")
	opa := flags.String("opa", "bin/opa", "path of opa")
	if err := flags.Parse(args); err != nil {
		return err
	}
	from, err := r.changeBase(ctx, *base)
	if err != nil {
		return err
	}
	files, err := r.changedFiles(ctx, from)
	if err != nil {
		return err
	}
	packages := packagesOf(files)
	fmt.Fprintf(r.out, "== %d files in %d packages changed since %s\n", len(files), len(packages), from)
	steps := [][]string{{*opa, "fmt", "--fail", "--list", "policies", "internal/metapolicies"}}
	if len(packages) > 0 {
		steps = append(steps,
			append([]string{*lint, "run", "--allow-parallel-runners"}, packages...),
			append([]string{"go", "vet"}, packages...),
			append([]string{"go", "test"}, packages...),
		)
	}
	for _, step := range steps {
		fmt.Fprintf(r.out, "== %s\n", strings.Join(step, " "))
		cmd := r.command(ctx, nil)
		cmd.Path, cmd.Args = step[0], step
		if cmd.Path, err = exec.LookPath(step[0]); err != nil {
			return fmt.Errorf("%s is missing: run make lint once, which builds it: %w", step[0], err)
		}
		cmd.Err = nil
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(step[0]), err)
		}
	}
	return nil
}

// changeBase is the commit that a change is compared with.
func (r runner) changeBase(ctx context.Context, base string) (string, error) {
	if base != "" {
		return base, nil
	}
	for _, main := range []string{"origin/main", "main"} {
		from, err := r.git(ctx, "merge-base", "HEAD", main)
		if err != nil {
			continue
		}
		head, err := r.git(ctx, "rev-parse", "HEAD")
		if err != nil {
			return "", err
		}
		if from = strings.TrimSpace(from); from != strings.TrimSpace(head) {
			return from, nil
		}
	}
	return "HEAD", nil
}

// changedFiles lists what differs from a commit, committed or not, and what is new.
func (r runner) changedFiles(ctx context.Context, from string) ([]string, error) {
	changed, err := r.git(ctx, "diff", "--name-only", "--diff-filter=d", from)
	if err != nil {
		return nil, err
	}
	untracked, err := r.git(ctx, "ls-files", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	files := strings.Fields(changed + untracked)
	slices.Sort(files)
	return slices.Compact(files), nil
}

// packagesOf names the packages whose tests may see the change of files: those that hold
// Go files, and for a change of anything else the nearest one above it.
func packagesOf(files []string) []string {
	found := map[string]bool{}
	for _, file := range files {
		for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
			if holdsGo(dir) {
				found["./"+filepath.ToSlash(dir)] = true
				break
			}
			if dir == "." {
				break
			}
		}
	}
	packages := make([]string, 0, len(found))
	for p := range found {
		if !strings.HasPrefix(p, "./tools") { // modules of their own
			packages = append(packages, p)
		}
	}
	slices.Sort(packages)
	return packages
}

func holdsGo(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	return err == nil && len(files) > 0
}

func (r runner) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // fixed arguments and a developer's own
	cmd.Env = os.Environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", errors.Join(fmt.Errorf("git %s: %w", strings.Join(args, " "), err), errors.New(stderr.String()))
	}
	return string(out), nil
}
