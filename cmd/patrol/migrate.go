package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"patrol/models/store"
)

func (p *process) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "migrate",
		GroupID: groupServer,
		Short:   "Bring the database's schema up to date",
		Long: `Bring the database's schema up to date, under a lock, and say from which version to which; likewise that of the decision log's database.
'patrol serve' does the same at its start unless database.migrate is false.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			cfg, err := p.settings(cmd)
			if err != nil {
				return err
			}
			if cfg.Database.OnSQLite() {
				if err := prepareFile(cfg, orNew); err != nil {
					return err
				}
			}
			s, err := store.Open(ctx, store.Config{URL: cfg.Database.URL.Reveal(), Limits: cfg.Tokens.Limits()})
			if err != nil {
				return fmt.Errorf("open the database %s: %w", cfg.Database.URL, err)
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			from, to, err := s.Migrate(ctx)
			if err != nil {
				return err
			}
			cfg.Database.Migrate = true // it is what the command is for
			decisions, err := openDecisions(ctx, cfg, store.Config{})
			if err != nil {
				return err
			}
			if decisions != nil {
				if err := decisions.Close(); err != nil {
					return err
				}
			}
			if from == to {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "The schema is up to date, at version %d.\n", to)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "The schema went from version %d to %d.\n", from, to)
			}
			return err
		},
	}
}
