package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"patrol/models/store"
)

func (p *process) migrateCommand() *cobra.Command {
	var finish bool
	cmd := &cobra.Command{
		Use:     "migrate",
		GroupID: groupServer,
		Short:   "Bring the database's schema up to date",
		Long: `Bring the database's schema up to date, under a lock, and say from which version to which; likewise that of the decision log's database.
'patrol serve' does the same at its start unless database.migrate is false.

After an upgrade of several servers on PostgreSQL, one after the other, --finish ends what is done for the sake of the old version alone. Give it
once none of the old version runs any more: until then each write waits for the others, and afterwards a server of the old version would
miss revocations.`,
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
			if err != nil {
				return err
			}
			return finishUpgrade(cmd, s, finish)
		},
	}
	cmd.Flags().BoolVar(&finish, "finish", false, "end what is done for servers of the old version, none of which runs any more")
	return cmd
}

// finishUpgrade ends what is done for servers of the version before, or says that it
// can be.
func finishUpgrade(cmd *cobra.Command, s *store.Store, finish bool) error {
	if finish {
		finished, err := s.FinishFeed(cmd.Context())
		if err != nil {
			return err
		}
		text := "The upgrade is finished."
		if !finished {
			text = "There is nothing to finish."
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	locked, err := s.FeedLocked(cmd.Context())
	if err == nil && locked {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "Writes still wait for each other, for servers of the old version: once none of them runs, run 'patrol migrate --finish'.")
	}
	return err
}
