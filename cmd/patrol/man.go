package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patrol/internal/release"
)

// manCommand writes the manual pages that packages install: one for each command.
func (p *process) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "man <folder>",
		Short:             "Write the manual pages into a folder",
		Hidden:            true,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // what is in it is public
				return fmt.Errorf("make the folder for the manual: %w", err)
			}
			return writeManual(args[0], cmd.Root())
		},
	}
}

func writeManual(dir string, cmd *cobra.Command) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	errs := []error{os.WriteFile(filepath.Join(dir, name), []byte(manual(cmd)), 0o644)} //nolint:gosec // likewise
	for _, child := range cmd.Commands() {
		errs = append(errs, writeManual(dir, child))
	}
	return errors.Join(errs...)
}

// manual is the manual page of a command, in the macros of man(7).
func manual(cmd *cobra.Command) string {
	var b strings.Builder
	section := func(title, text string) {
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(&b, ".SH %s\n.nf\n%s\n.fi\n", title, troff(text))
		}
	}
	path := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"%s\" \"patrol %s\" \"Patrol\"\n", strings.ToUpper(path), release.Current().Date, troff(release.Current().Version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", troff(path), troff(cmd.Short))
	section("SYNOPSIS", cmd.UseLine())
	section("DESCRIPTION", cmd.Long)
	var options strings.Builder
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			fmt.Fprintf(&options, "--%s  %s\n", f.Name, f.Usage)
		}
	})
	section("OPTIONS", options.String())
	section("EXAMPLES", cmd.Example)
	var also []string
	if cmd.HasParent() {
		also = append(also, strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-")+"(1)")
	}
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" {
			also = append(also, strings.ReplaceAll(child.CommandPath(), " ", "-")+"(1)")
		}
	}
	section("SEE ALSO", strings.Join(also, "\n"))
	return b.String()
}

// troff masks what would be a command of troff's.
func troff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
