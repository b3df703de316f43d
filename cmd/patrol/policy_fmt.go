package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"patrol/internal/linediff"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

func (p *process) policyFmtCommand() *cobra.Command {
	var check, diff, write bool
	cmd := &cobra.Command{
		Use:   "fmt <file or folder>...",
		Short: "Bring Rego into its usual form",
		Long: `Bring Rego files, and those in folders, into the form that 'opa fmt' gives them. Without a flag it names the files that are not in that form.

The exit status is 0 if there is nothing to do or it is done, 1 with --check, --diff or no flag if there is something to do, 2 if something went wrong.`,
		Example: `  patrol policy fmt my-policy --diff
  patrol policy fmt my-policy --write`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if write && (check || diff) {
				return usagef("--write does it; --check and --diff only look: give one or the other")
			}
			names, err := regoFiles(args)
			if err != nil {
				return err
			}
			odd, broken := 0, false
			for _, name := range names {
				content, err := os.ReadFile(name) //nolint:gosec // G304: the path is of whoever types it
				if err != nil {
					return err
				}
				formatted, err := workbench.Format(name, content)
				if err != nil {
					broken = true
					for _, f := range engine.Findings(err) {
						fmt.Fprintln(cmd.ErrOrStderr(), printable(f.String()))
					}
					continue
				}
				if bytes.Equal(content, formatted) {
					continue
				}
				odd++
				switch {
				case write:
					err = replaceFile(name, formatted)
				case diff:
					_, err = fmt.Fprint(cmd.OutOrStdout(), printableLines(linediff.Unified(name, string(content), string(formatted))))
				default:
					_, err = fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				if err != nil {
					return err
				}
			}
			if broken || odd > 0 && !write {
				return errDenied
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "name the files that are not in this form (the default)")
	cmd.Flags().BoolVarP(&diff, "diff", "d", false, "show what would change")
	cmd.Flags().BoolVarP(&write, "write", "w", false, "change the files")
	return cmd
}

// regoFiles lists files as they are named, and those in folders.
func regoFiles(args []string) (names []string, err error) {
	for _, arg := range args {
		err := filepath.WalkDir(arg, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && name != arg && strings.HasPrefix(d.Name(), "."):
				return fs.SkipDir
			case !d.IsDir() && (name == arg || strings.HasSuffix(name, ".rego")):
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// replaceFile writes a file anew, whole or not at all, with the permissions that it
// has; a new one is for everybody to read.
func replaceFile(name string, content []byte) error {
	mode := fs.FileMode(0o644)
	info, err := os.Stat(name)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	made, err := os.CreateTemp(filepath.Dir(name), ".patrol-*")
	if err != nil {
		return err
	}
	defer os.Remove(made.Name()) //nolint:errcheck // gone after the rename
	_, err = made.Write(content)
	if closed := made.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(made.Name(), mode)
	}
	if err == nil {
		err = os.Rename(made.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
