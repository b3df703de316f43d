package main

import (
	"github.com/spf13/cobra"

	"patrol/internal/release"
)

// currentVersion names this build.
func currentVersion() string { return release.Current().Version }

func versionCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:               "version",
		GroupID:           groupServer,
		Short:             "Print which version this is, and of which commit",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if o.json() {
				return o.printJSON(release.Current())
			}
			return o.printf("%s\n", release.Current())
		},
	}
	addOutput(cmd, &o)
	return cmd
}
