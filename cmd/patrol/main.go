package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/internal/heap"
	"patrol/internal/release"
)

func main() {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], bundles.Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := &process{name: os.Args[0], args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	status := p.run(ctx)
	stop()
	os.Exit(status)
}

// process holds all that a run of the program takes from the operating system, so that
// a test can give it something else.
type process struct {
	name           string // by which the program was called
	args           []string
	environ        []string // in the form of os.Environ
	stdin          io.Reader
	stdout, stderr io.Writer
}

// policyHeadroom is the number of bytes that a command on policies allocates between two collections of
// garbage: a check keeps little and lives for seconds.
const policyHeadroom = 64 << 20

// run carries out one command line and returns its exit status. When ctx ends,
// so does the command: a server stops cleanly.
func (p *process) run(ctx context.Context) int {
	if len(p.args) > 0 && p.args[0] == "policy" && p.getenv("GOGC") == "" {
		defer heap.Headroom(policyHeadroom)()
	}
	root := p.command() //nolint:contextcheck // commands find ctx in their cobra.Command
	root.SetArgs(p.args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	return p.report(ctx, err)
}

// command is the whole tree of commands.
func (p *process) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "patrol",
		Short: "Personal access tokens, judged by policy",
		Long: `Patrol issues, stores and judges personal access tokens.

Try it:            patrol serve --demo
Run a server:      patrol user create ada@example.com --admin && patrol serve
Get a token:       patrol login && patrol pat create --name ci --expires-in 30d --scope acme:models:*:read

The exit status is 0 if what was asked is done or allowed, 1 if it was denied, 2 if something went wrong.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.Version = release.Current().String()
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Server:"},
		&cobra.Group{ID: groupOperator, Title: "Operator commands, straight on the database:"},
		&cobra.Group{ID: groupPolicy, Title: "Policy commands, on files:"},
		&cobra.Group{ID: groupClient, Title: "Client commands, over HTTP:"},
	)
	root.AddCommand(p.serveCommand(), p.migrateCommand(), p.configCommand(), p.healthCommand(), p.doctorCommand(), versionCommand())
	root.AddCommand(p.userCommand(), p.domainCommand(), p.memberCommand(), p.keysCommand(), p.backupCommand(), p.restoreCommand())
	root.AddCommand(p.policyCommand(), p.statusCommand(), p.manCommand())
	root.AddCommand(p.loginCommand(), p.logoutCommand(), p.patCommand(), p.accountCommand(), p.authorizeCommand())
	shareSettings(root)
	refuseBlanks(root)
	pointToHelp(root)
	return root
}

const (
	groupServer   = "server"
	groupOperator = "operator"
	groupPolicy   = "policy"
	groupClient   = "client"
)

// getenv returns an environment variable, "" if it is not set.
func (p *process) getenv(name string) string {
	value := ""
	for _, entry := range p.environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// colours reports whether a stream shows them: it is a terminal that can, and nobody
// asked for plain text (https://no-color.org).
func (p *process) colours(stream any) bool {
	return terminal(stream) != nil && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb"
}

// terminal returns the file behind a stream if that is a terminal, else nil.
func terminal(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
