package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"patrol/cmd/patrol/config"
)

// shareSettings gives every command the flags of the settings.
func shareSettings(root *cobra.Command) {
	config.AddFlags(root.PersistentFlags())
}

// hideSettings leaves the settings of the server out of the help of a command
// that has no use for them.
func hideSettings(cmd *cobra.Command) {
	const from, to = "{{if .HasAvailableInheritedFlags}}", "{{end}}"
	template := cmd.UsageTemplate()
	start := strings.Index(template, from)
	if start < 0 {
		return
	}
	length := strings.Index(template[start:], to)
	if length < 0 {
		return
	}
	cmd.SetUsageTemplate(template[:start] + template[start+length+len(to):])
}

// settings reads the settings that are in force for a command. The parts that
// they are for have the last word on them.
func (p *process) settings(cmd *cobra.Command) (config.Config, error) {
	c, err := config.Load(cmd.Flags(), p.environ)
	if err != nil {
		return c, err
	}
	if err := errors.Join(serverConfig(c).Validate(), gatewayConfig(c).Validate()); err != nil {
		return c, fmt.Errorf("settings: %w", err)
	}
	return c, nil
}

func (p *process) configCommand() *cobra.Command {
	var reference bool
	cmd := &cobra.Command{
		Use:     "config",
		GroupID: groupServer,
		Short:   "Print the settings in force, secrets masked",
		Long: `Print, as a YAML file, the settings that are in force when flags, environment and file are put together. Secrets are masked.
Problems are reported as serve would.`,
		Example: `  patrol config --config patrol.yaml
  patrol config --reference`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reference {
				return config.Reference(cmd.OutOrStdout())
			}
			c, err := p.settings(cmd)
			if err != nil {
				return err
			}
			if err := c.Print(cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("print the settings: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&reference, "reference", false, "print what every setting means, as Markdown")
	return cmd
}
