package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// refuseBlanks makes a command and all below it refuse an argument or flag that was
// given and is empty, before anything else is looked at. In a script it is a variable
// that is not set, and what is left out means all, the default or anybody in many
// places: no command may act on that.
func refuseBlanks(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseBlanks(sub)
	}
	next := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		for i, arg := range args {
			if blank(arg) {
				return usagef("argument %d of '%s' is empty, so that nothing was done: is a variable unset? Usage: %s", i+1, cmd.CommandPath(), cmd.UseLine())
			}
		}
		var empty string
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if blankFlag(f) {
				empty = f.Name
			}
		})
		if empty != "" {
			return usagef("--%s is empty, so that nothing was done: is a variable unset? Give it a value, or leave it out", empty)
		}
		if next == nil {
			return nil
		}
		return next(cmd, args)
	}
}

// blankFlag reports whether a flag that was given has no value, or one of its values
// is none.
func blankFlag(f *pflag.Flag) bool {
	list, several := f.Value.(pflag.SliceValue)
	if !several {
		return blank(f.Value.String())
	}
	values := list.GetSlice()
	return len(values) == 0 || slices.ContainsFunc(values, blank)
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }
