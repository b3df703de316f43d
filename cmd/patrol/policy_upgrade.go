package main

import (
	"bytes"
	"context"
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

	"patrol/bundles"
	"patrol/internal/linediff"
	"patrol/policies"
	"patrol/policies/engine"
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
adds is written, and what is yours alone is left as it is. A default file that you have changed, and that this version changes elsewhere, gets what is new beside your changes, and you are shown what that
is. Where both changed the same lines, or the policy would not load, you are shown both changes to put together by hand.

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
			u, err := planUpgrade(cmd.Context(), args[0])
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

// upgrade lists the changes that an upgrade makes in a folder.
type upgrade struct {
	replaced, added []string   // up to this version
	gone            []string   // default files that the folder has done without
	merged          []conflict // both changes could be put together
	conflicts       []conflict
	now             map[string][]byte
}

// conflict is a file that both sides have changed.
type conflict struct {
	name              string
	base, yours, news []byte
	merged            []byte
}

func planUpgrade(ctx context.Context, folder string) (*upgrade, error) {
	now, err := starterContent()
	if err != nil {
		return nil, err
	}
	earlier, err := earlierReleases()
	if err != nil {
		return nil, err
	}
	began := begunWith(folder, earlier)
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
		case errors.Is(err, fs.ErrNotExist) && began[name] != nil:
			u.gone = append(u.gone, name)
		case errors.Is(err, fs.ErrNotExist):
			u.added = append(u.added, name)
		case err != nil:
			return nil, err
		case bytes.Equal(yours, now[name]):
		case isOld:
			u.replaced = append(u.replaced, name)
		default:
			base := nearest(yours, append(versions, now[name]))
			if bytes.Equal(base, now[name]) {
				break // changed here alone
			}
			c := conflict{name: name, base: base, yours: yours, news: now[name]}
			if merged, ok := linediff.Merge(string(base), string(yours), string(now[name])); ok {
				c.merged = []byte(merged)
				u.merged = append(u.merged, c)
			} else {
				u.conflicts = append(u.conflicts, c)
			}
		}
	}
	return u, u.holdMerged(ctx, folder)
}

// begunWith are the files of the version that a folder was begun with, or upgraded to: that of
// which it has the most as they were. What such a version did not have nobody has taken out.
func begunWith(folder string, earlier []map[string][]byte) (began map[string][]byte) {
	most, files := 0, map[string][]byte{}
	for _, release := range earlier {
		files = maps.Clone(files)
		maps.Copy(files, release) // a version lists only what it changes
		same := 0
		for name, content := range files {
			yours, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name))) //nolint:gosec // G304: the folder is of whoever types it
			if err == nil && bytes.Equal(yours, content) {
				same++
			}
		}
		if same >= most {
			most, began = same, files
		}
	}
	return began
}

// nearest is the version that a file was changed from: the one that it differs least from,
// and of those the last.
func nearest(yours []byte, versions [][]byte) (base []byte) {
	least := -1
	for _, v := range versions {
		n := 0
		for _, h := range linediff.Hunks(string(v), string(yours)) {
			for _, l := range h {
				if l.Op != linediff.Both {
					n++
				}
			}
		}
		if least < 0 || n <= least {
			base, least = v, n
		}
	}
	return base
}

// holdMerged sees to it that a folder which could be read can be read with the merged files:
// what fits line by line need not make sense. What does not is left to be done by hand.
func (u *upgrade) holdMerged(ctx context.Context, folder string) error {
	if len(u.merged) == 0 {
		return nil
	}
	src, err := bundles.Open(ctx, folder)
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(u.replaced, u.added) {
		src.Files[name] = u.now[name]
	}
	var sound []conflict
	for _, c := range u.merged {
		was := src.Files[c.name]
		src.Files[c.name] = c.merged
		if engine.IsPolicyFile(c.name) {
			if _, err := engine.Load(ctx, src); err != nil {
				src.Files[c.name] = was
				u.conflicts = append(u.conflicts, c)
				continue
			}
		}
		sound = append(sound, c)
	}
	u.merged = sound
	return nil
}

// starterContent returns the files that 'patrol policy init' writes now.
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

// authzFile is the file whose rules ask for those of a team's own.
const authzFile = "authz/authz.rego"

// asksForOwn names the rules that a changed decision must read, or own rules have no effect.
const asksForOwn = `
For deny, waive and labels of package patrol.custom to count, it takes these rules, whatever else is changed:

  forbidden contains reason if some reason in data.patrol.custom.deny

  waived contains exception.code if {
  	some exception in data.patrol.custom.waive
  	is_number(input.now)
  	is_number(exception.until)
  	input.now < exception.until
  	exception.until <= input.now + (((90 * 24) * 60) * 60)
  }

  operation_permitted if "role_forbids" in waived  # and so for each helper of a reason that can be waived

  decision := object.union(answer, extras)  # where answer allows exactly if there are no reasons

  extras["labels"] := data.patrol.custom.labels
`

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
	for _, c := range u.merged {
		if err := writeInto(root, c.name, c.merged); err != nil {
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
	for _, c := range u.merged {
		fmt.Fprintf(&b, "merged   %s\n", c.name)
	}
	for _, c := range u.conflicts {
		fmt.Fprintf(&b, "by hand  %s\n", c.name)
	}
	for _, c := range u.merged {
		fmt.Fprintf(&b, "\nWhat was new in %s, beside what you had changed:\n%s", c.name, linediff.Unified(c.name, string(c.yours), string(c.merged)))
	}
	for _, c := range u.conflicts {
		fmt.Fprintf(&b, "\nWhat was changed in %s here:\n%s", c.name, linediff.Unified(c.name, string(c.base), string(c.yours)))
		fmt.Fprintf(&b, "\nWhat is new in %s:\n%s", c.name, linediff.Unified(c.name, string(c.base), string(c.news)))
		if c.name == authzFile {
			b.WriteString(asksForOwn)
		}
	}
	switch {
	case b.Len() == 0:
		b.WriteString("everything is up to date\n")
	case len(u.conflicts) > 0:
		fmt.Fprintf(&b, "\n%d to put together by hand. Until then rules that the old files do not ask for cannot fire; 'patrol policy check' says which.\n", len(u.conflicts))
	}
	return out.printf("%s", printableLines(b.String()))
}
