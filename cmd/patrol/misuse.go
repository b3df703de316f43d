package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patrol/cmd/patrol/config"
)

// pointToHelp makes every command that is called in a wrong way say what was
// probably meant, and where its help is.
func pointToHelp(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		message := err.Error()
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			if meant := config.Closest(unknown.GetSpecifiedName(), flagNames(cmd)); meant != "" {
				message += "; did you mean --" + meant + "?"
			}
		}
		return misuse(cmd, message)
	})
	pointArguments(root)
}

func pointArguments(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		pointArguments(sub)
	}
	cmd.SuggestionsMinimumDistance = 2 // two letters in the wrong order are that far
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil:
		case cmd.HasSubCommands() && len(args) > 0:
			message := fmt.Sprintf("unknown command %q for %q", printable(args[0]), cmd.CommandPath())
			if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
				message += "; did you mean " + strings.Join(meant, " or ") + "?"
			}
			return misuse(cmd, message)
		default:
			return misuse(cmd, err.Error())
		}
		// Cobra checks this too, but says it without the help.
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return misuse(cmd, err.Error())
		}
		return nil
	}
}

// misuse is an error about how cmd was called.
func misuse(cmd *cobra.Command, message string) error {
	return usagef("%s (see '%s --help')", message, cmd.CommandPath())
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}
