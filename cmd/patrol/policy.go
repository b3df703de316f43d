package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"patrol/bundles"
	"patrol/cmd/patrol/config"
	"patrol/models/store"
	"patrol/policies/engine"
)

func (p *process) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		GroupID: groupPolicy,
		Short:   "Write, test, explain and ship a policy",
		Long: `Work on a policy bundle. It is named by the path of a folder or of a .tar.gz archive, or by one of these words:

  embedded         the bundle inside this program, which is also meant where none is named
  active           the one in force, as the database has it
  revision:<name>  one that the database keeps, by its revision or digest; 'patrol policy history' lists them

Of these commands, replay, diff and explain --decision read the decision log: in a server's database, or in files of it. status, history, rollback and resume are
about the policy in force, in the database, shadow and promote about the one beside it.

Begin:             patrol policy init my-policy
While you write:   patrol policy test my-policy --watch
Before you ship:   patrol policy check my-policy && patrol policy build my-policy -o policy.tar.gz

What check finds is what keeps a server from putting a policy in force: it is the same code.
The exit status is 0 if all is well, 1 if the policy fails or the answer is no, 2 if something went wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		p.policyInitCommand(), p.policyUpgradeCommand(), p.policyCheckCommand(), p.policyTestCommand(), p.policyFmtCommand(),
		p.policyInspectCommand(), p.policyDocsCommand(), p.policyEvalCommand(),
		p.policyBuildCommand(), p.policySignCommand(), p.policyVerifyCommand(),
	)
	for _, c := range cmd.Commands() {
		hideSettings(c)
	}
	hideSettings(cmd)
	cmd.AddCommand(p.policyExplainCommand(), p.policyReplayCommand(), p.policyDiffCommand()) // which read a server's database
	cmd.AddCommand(p.policyLiveCommands()...)
	return cmd
}

// policyPath is the one argument of most policy commands.
var policyPath = cobra.MaximumNArgs(1)

// policyFiles is a bundle that a command works on.
type policyFiles struct {
	engine.Source
	path string // "" if it is not on disk
}

// The words that name a bundle which is not on disk.
const (
	nameEmbedded = "embedded"
	nameActive   = "active"
	nameRevision = "revision:"
)

// openPolicy reads the bundle that the argument names.
func (p *process) openPolicy(cmd *cobra.Command, args []string) (policyFiles, error) {
	b, err := p.readPolicy(cmd, args, nil)
	if err != nil {
		return policyFiles{}, err
	}
	return policyFiles{b.Source, pathOf(args)}, nil
}

// permitted lists the reasons that the server lets policies waive, as far as its settings can be
// read from here.
func (p *process) permitted(cmd *cobra.Command) []string {
	c, err := config.Load(cmd.Flags(), p.environ)
	if err != nil {
		return nil // who looks into a policy need not be able to run a server
	}
	return c.Gate.Waive
}

// pathOf is the path that the argument is; "" if it is none.
func pathOf(args []string) string {
	if len(args) == 0 || args[0] == nameEmbedded || args[0] == nameActive || strings.HasPrefix(args[0], nameRevision) {
		return ""
	}
	return args[0]
}

// readPolicy is openPolicy with the bundle's archive, and with the signature verified
// unless v is nil.
func (p *process) readPolicy(cmd *cobra.Command, args []string, v *bundles.Verifier) (b *bundles.Bundle, err error) {
	path := pathOf(args)
	switch {
	case path != "", len(args) == 0, args[0] == nameEmbedded:
		b, err = bundles.Read(cmd.Context(), path, v)
	case args[0] == "":
		return nil, usagef("the path of the policy is empty")
	default:
		b, err = p.keptPolicy(cmd, args[0], v)
	}
	if err != nil {
		return nil, err
	}
	b.Waive = p.permitted(cmd)
	return b, nil
}

// keptPolicy reads a bundle that the database keeps, by one of the words for that.
func (p *process) keptPolicy(cmd *cobra.Command, word string, v *bundles.Verifier) (b *bundles.Bundle, err error) {
	err = p.withStore(cmd, func(ctx context.Context, s *store.Store) error {
		name := strings.TrimPrefix(word, nameRevision)
		if word == nameActive {
			state, err := s.PolicyState(ctx)
			if err != nil {
				return err
			}
			if name = state.Digest; name == "" {
				return errors.New("no policy was in force yet in this database")
			}
		}
		kept, err := s.KeptPolicy(ctx, name)
		if err != nil {
			return err
		}
		archive, err := s.PolicyArchive(ctx, kept.Digest)
		if err != nil {
			return err
		}
		b, err = bundles.Unpack(ctx, nameRevision+kept.Revision, archive, v)
		return err
	})
	return b, err
}

// withStore calls do with the server's database.
func (p *process) withStore(cmd *cobra.Command, do func(context.Context, *store.Store) error) (err error) {
	o := &operator{process: p}
	if err := o.open(cmd.Context(), cmd); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	return do(cmd.Context(), o.store)
}

// folder returns the bundle's folder, "" if it is not one.
func (f policyFiles) folder() string {
	if info, err := os.Stat(f.path); f.path != "" && err == nil && info.IsDir() {
		return f.path
	}
	return ""
}

// at returns a finding with its file named as editors find it from here.
func (f policyFiles) at(finding engine.Finding) engine.Finding {
	finding.File = f.show(finding.File)
	return finding
}

// show names a file of the bundle as it is found from here.
func (f policyFiles) show(file string) string {
	if folder := f.folder(); folder != "" && file != "" {
		return filepath.Join(folder, filepath.FromSlash(file))
	}
	return file
}

// load puts the bundle together. What is wrong with it is printed where and as check
// prints it, and ends the command with the status of a policy that fails.
func (f policyFiles) load(ctx context.Context, stderr io.Writer, opts ...engine.Option) (*engine.Snapshot, error) {
	s, err := engine.Load(ctx, f.Source, opts...)
	if err != nil {
		return nil, f.refuse(ctx, err, stderr)
	}
	return s, nil
}

// refuse tells what is wrong with a bundle, unless the command was interrupted.
func (f policyFiles) refuse(ctx context.Context, err error, stderr io.Writer) error {
	if ctx.Err() != nil {
		return err
	}
	for _, finding := range engine.Findings(err) {
		fmt.Fprintln(stderr, printable(f.at(finding).String()))
	}
	return errDenied
}

// readInputFile reads what to ask a policy: a file, or standard input for "-".
func (p *process) readInputFile(name string) ([]byte, error) {
	const most = 4 << 20
	in := p.stdin
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // G304: the path is of whoever types it
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	} else if terminal(p.stdin) != nil {
		fmt.Fprintln(p.stderr, "Reading the input from standard input, until its end (Ctrl-D).")
	}
	content, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the input: %w", err)
	case len(content) > most:
		return nil, fmt.Errorf("the input is larger than %d MiB", most>>20)
	case strings.TrimSpace(string(content)) == "":
		return nil, errors.New("the input is empty: give a file with --input, or JSON on standard input")
	}
	return content, nil
}
