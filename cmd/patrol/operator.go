package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/bundles"
	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
)

// listPage is the number of rows that operator commands read at a time; they print all.
const listPage = 200

// operator is shared by the commands that work straight on the database.
type operator struct {
	*process
	output
	cfg   config.Config
	store *store.Store
	by    models.Actor
}

// command completes an operator command: do runs with the database open.
func (o *operator) command(cmd *cobra.Command, do func(ctx context.Context, args []string) error) *cobra.Command {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var warnings models.Warnings
		ctx := models.WithWarnings(cmd.Context(), &warnings)
		if err := o.open(ctx, cmd); err != nil {
			return err
		}
		err := do(ctx, args)
		for _, text := range warnings.Texts() {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "patrol: warning: %s\n", text) // nobody to tell if that fails
		}
		return errors.Join(err, o.store.Close())
	}
	addOutput(cmd, &o.output)
	return cmd
}

func (o *operator) open(ctx context.Context, cmd *cobra.Command) (err error) {
	if o.cfg, err = o.settings(cmd); err != nil {
		return err
	}
	if _, err := checkFiles(o.cfg, privateFiles(o.cfg)...); err != nil {
		return err
	}
	o.by = operatorActor(cmd)
	// Only the first account may bring the database into being: any other command
	// that finds none was most likely pointed at the wrong place.
	may := existing
	if cmd.CommandPath() == "patrol user create" {
		may = orNew
	}
	if o.store, err = openStore(ctx, o.cfg, may, store.Config{}); err != nil {
		return err
	}
	if _, _, err = keepTombstones(ctx, o.cfg, o.store, time.Now(), false); err != nil {
		return errors.Join(err, o.store.Close())
	}
	return nil
}

// operatorActor is the actor in the audit log: somebody with a shell, known by
// the name that the operating system has for them.
func operatorActor(cmd *cobra.Command) models.Actor {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return models.Actor{Kind: models.ActorOperator, UserAgent: fmt.Sprintf("%s, as operating system user %s", cmd.CommandPath(), name)}
}

// presence says whether a database may be made.
type presence bool

const (
	existing presence = false
	orNew    presence = true
)

// openStore opens the configured database with its schema up to date. base holds
// what does not come from the settings.
func openStore(ctx context.Context, cfg config.Config, may presence, base store.Config) (*store.Store, error) {
	if cfg.Database.OnSQLite() {
		if err := prepareFile(cfg, may); err != nil {
			return nil, err
		}
	}
	base.URL = cfg.Database.URL.Reveal()
	base.Limits = cfg.Tokens.Limits()
	base.MaxConns, base.ListenURL = cfg.Database.MaxConns, cfg.Database.ListenURL.Reveal()
	base.FactTimeout = cfg.Decisions.LookupTimeout
	s, err := store.Open(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", cfg.Database.URL, err)
	}
	if err := prepareSchema(ctx, cfg, s, base.Logger); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func prepareSchema(ctx context.Context, cfg config.Config, s *store.Store, log *slog.Logger) error {
	if !cfg.Database.Migrate {
		return s.CheckSchema(ctx)
	}
	from, to, err := s.Migrate(ctx)
	if err == nil && from != to && log != nil {
		log.InfoContext(ctx, "schema migrated", "from", from, "to", to)
	}
	return err
}

// prepareFile makes the data folder for a new database, or insists on one that is
// there.
func prepareFile(cfg config.Config, may presence) error {
	if may == orNew {
		return makeDataDir(cfg)
	}
	path := strings.TrimPrefix(cfg.Database.URL.Reveal(), "sqlite://")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no database at %s: point --data-dir or --database-url at the server's, or begin with 'patrol serve' or 'patrol user create'", path)
	}
	return nil
}

// makeDataDir makes the data folder, for its owner only.
func makeDataDir(cfg config.Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// loadPolicy compiles the policy in force, which the database keeps, or else the
// configured one. With s nil it is the configured one.
func loadPolicy(ctx context.Context, cfg config.Config, s *store.Store) (*engine.Snapshot, error) {
	var source engine.Source
	var state store.PolicyState
	var err error
	if s != nil {
		if state, err = s.PolicyState(ctx); err != nil {
			return nil, err
		}
	}
	if state.Digest != "" {
		archive, err := s.PolicyArchive(ctx, state.Digest)
		if err != nil {
			return nil, err
		}
		b, err := bundles.Unpack(ctx, state.Source, archive, nil)
		if err != nil {
			return nil, fmt.Errorf("read the policy in force: %w", err)
		}
		source = b.Source
	} else if source, err = bundles.Open(ctx, cfg.Policy); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	snapshot, err := engine.Load(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("load the policy: %w", err)
	}
	return snapshot, nil
}

// findUser returns the user that text names: by email address or by id.
func (o *operator) findUser(ctx context.Context, text string) (models.User, error) {
	find := o.store.User
	if strings.Contains(text, "@") {
		find = o.store.UserByEmail
	}
	u, err := find(ctx, text)
	if err != nil {
		return models.User{}, err
	}
	if u == nil {
		return models.User{}, models.NewError(models.CodeNotFound, fmt.Sprintf("there is no user %q", printable(text)))
	}
	return *u, nil
}

// all reads every page of a list.
func all[T any](read func(store.Page) ([]T, string, error)) ([]T, error) {
	out := []T{}
	page := store.Page{Limit: listPage}
	for {
		items, next, err := read(page)
		if err != nil {
			return nil, err
		}
		out = append(out, items...)
		if next == "" {
			return out, nil
		}
		page.After = next
	}
}
