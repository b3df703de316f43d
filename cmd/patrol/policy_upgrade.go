package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"

	"patrol/internal/linediff"
	"patrol/policies"
)

// releases are the default policy's files as 'patrol policy init' wrote them in earlier
// versions, the oldest first by name. A version that changes them adds what was before.
//
//go:embed releases/*.txtar
var releases embed.FS

func (p *process) policyUpgradeCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "upgrade <folder>",
		Short: "Bring a folder's default files up to this version",
		Long: `Bring the files of the default policy in a folder up to those of this version. A file that is as some earlier version wrote it is replaced, one that this version
adds is written, and what is yours alone is left as it is. Of a default file that you have changed, and that this version changes as well, you are shown both changes, to put together by hand: what was
changed here, and what is new.

The exit status is 0 if all is up to date, 1 if there is something to do by hand, 2 if something went wrong.`,
		Example: `  patrol policy upgrade my-policy --dry-run
  patrol policy upgrade my-policy && patrol policy check my-policy`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err != nil {
				return err
			} else if !info.IsDir() {
				return usagef("%s is no folder", printable(args[0]))
			}
			u, err := planUpgrade(args[0])
			if err != nil {
				return fmt.Errorf("upgrade %s: %w", printable(args[0]), err)
			}
			if !dry {
				if err := u.write(args[0]); err != nil {
					return fmt.Errorf("upgrade %s: %w", printable(args[0]), err)
				}
			}
			if err := u.tell(output{w: cmd.OutOrStdout()}); err != nil {
				return err
			}
			if len(u.conflicts) > 0 {
				return errDenied
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "change nothing, and say what would be")
	hideSettings(cmd)
	return cmd
}

// upgrade is what is to be done with a folder.
type upgrade struct {
	replaced, added []string // up to this version
	gone            []string // default files that the folder has done without
	conflicts       []conflict
	now             map[string][]byte
}

// conflict is a file that both sides have changed.
type conflict struct {
	name              string
	base, yours, news []byte
}

func planUpgrade(folder string) (*upgrade, error) {
	now, err := starterContent()
	if err != nil {
		return nil, err
	}
	earlier, err := earlierReleases()
	if err != nil {
		return nil, err
	}
	u := &upgrade{now: now}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		yours, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name))) //nolint:gosec // G304: the folder is of whoever types it
		var versions [][]byte
		for _, release := range earlier {
			if content, ok := release[name]; ok {
				versions = append(versions, content)
			}
		}
		isOld := slices.ContainsFunc(versions, func(content []byte) bool { return bytes.Equal(content, yours) })
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(versions) > 0:
			u.gone = append(u.gone, name)
		case errors.Is(err, fs.ErrNotExist):
			u.added = append(u.added, name)
		case err != nil:
			return nil, err
		case bytes.Equal(yours, now[name]):
		case isOld:
			u.replaced = append(u.replaced, name)
		case len(versions) > 0 && bytes.Equal(versions[len(versions)-1], now[name]): // changed here alone
		default:
			c := conflict{name: name, yours: yours, news: now[name]}
			if len(versions) > 0 {
				c.base = versions[len(versions)-1]
			}
			u.conflicts = append(u.conflicts, c)
		}
	}
	return u, nil
}

// starterContent is what 'patrol policy init' writes now.
func starterContent() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[name], err = policies.FS.ReadFile(name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for from, to := range starterFiles {
		if files[to], err = starter.ReadFile("starter/" + from); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// earlierReleases are the files of earlier versions, by name.
func earlierReleases() (all []map[string][]byte, err error) {
	entries, err := releases.ReadDir("releases")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		content, err := releases.ReadFile("releases/" + e.Name())
		if err != nil {
			return nil, err
		}
		files := map[string][]byte{}
		for _, f := range txtar.Parse(content).Files {
			files[f.Name] = f.Data
		}
		all = append(all, files)
	}
	return all, nil
}

func (u *upgrade) write(folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(u.replaced, u.added) {
		if err := writeInto(root, name, u.now[name]); err != nil {
			return errors.Join(err, root.Close())
		}
	}
	return root.Close()
}

func (u *upgrade) tell(out output) error {
	var b bytes.Buffer
	for _, part := range []struct {
		what  string
		names []string
	}{{"replaced", u.replaced}, {"added   ", u.added}, {"left out", u.gone}} {
		for _, name := range part.names {
			fmt.Fprintf(&b, "%s %s\n", part.what, name)
		}
	}
	for _, c := range u.conflicts {
		fmt.Fprintf(&b, "by hand  %s\n", c.name)
	}
	for _, c := range u.conflicts {
		fmt.Fprintf(&b, "\nWhat was changed in %s here:\n%s", c.name, linediff.Unified(c.name, string(c.base), string(c.yours)))
		fmt.Fprintf(&b, "\nWhat is new in %s:\n%s", c.name, linediff.Unified(c.name, string(c.base), string(c.news)))
	}
	switch {
	case b.Len() == 0:
		b.WriteString("everything is up to date\n")
	case len(u.conflicts) > 0:
		fmt.Fprintf(&b, "\n%d to put together by hand. Until then rules that the old files do not ask for cannot fire; 'patrol policy check' says which.\n", len(u.conflicts))
	}
	return out.printf("%s", printableLines(b.String()))
}
