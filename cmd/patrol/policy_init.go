package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"patrol/policies"
)

// starter holds the files of a new repository beside the policy.
//
//go:embed starter
var starter embed.FS

// starterFiles says where its files go. They are kept under names that do nothing in
// this repository.
var starterFiles = map[string]string{
	"README.md":   "README.md",
	"gitignore":   ".gitignore",
	"regal.yaml":  ".regal/config.yaml",
	"github.yaml": ".github/workflows/policy.yml",
	"gitlab.yaml": ".gitlab-ci.yml",
}

func (p *process) policyInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init <folder>",
		Short: "Begin a repository of your own for a policy, with tests and CI",
		Long: `Write a policy into a folder, to be a repository of its own: the default policy with its tests, data and schemas, a README for those who write it, CI for
GitHub Actions and GitLab that tests, compares, builds and signs it, and what linters and Git leave alone. It passes 'patrol policy check' as it stands.

The folder must not exist yet, or be empty but for .git.`,
		Example: `  patrol policy init my-policy
  git init my-policy && patrol policy init my-policy`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := args[0]
			if folder == "" {
				return usagef("the path of the folder is empty")
			}
			if err := writeStarter(folder); err != nil {
				return fmt.Errorf("begin a policy in %s: %w", printable(folder), err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), `%[1]s: the default policy, to be changed. It passes as it stands:

  patrol policy check %[1]s
  patrol policy test %[1]s --watch

%[2]s says how to change, review and ship it.
`, printable(folder), printable(filepath.Join(folder, "README.md")))
			return err
		},
	}
}

// writeStarter fills a folder that does not exist yet or is empty. If that fails, what
// it has written is taken away.
func writeStarter(folder string) (err error) {
	made, err := emptyFolder(folder)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, withoutStarter(root, folder, made))
		}
		err = errors.Join(err, root.Close())
	}()
	err = fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := policies.FS.ReadFile(name)
		if err != nil {
			return err
		}
		return writeInto(root, name, content)
	})
	if err != nil {
		return err
	}
	for from, to := range starterFiles {
		content, err := starter.ReadFile("starter/" + from)
		if err != nil {
			return err
		}
		if err := writeInto(root, to, content); err != nil {
			return err
		}
	}
	return nil
}

// emptyFolder sees to it that there is an empty folder, and reports whether it has made
// it. Only Git's own folder may be in it.
func emptyFolder(folder string) (made bool, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return true, os.MkdirAll(folder, 0o755) //nolint:gosec // G301: a repository is for others to read
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != ".git" {
			return false, fmt.Errorf("the folder is not empty, it has %s: name one that is empty or does not exist", printable(e.Name()))
		}
	}
	return false, nil
}

func writeInto(root *os.Root, name string, content []byte) error {
	if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(name)), 0o755); err != nil {
		return err
	}
	return root.WriteFile(filepath.FromSlash(name), content, 0o644)
}

// withoutStarter takes away what was written.
func withoutStarter(root *os.Root, folder string, made bool) error {
	if made {
		return os.RemoveAll(folder)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		if e.Name() != ".git" {
			err = errors.Join(err, root.RemoveAll(e.Name()))
		}
	}
	return err
}
