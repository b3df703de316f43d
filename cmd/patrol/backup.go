package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"patrol/cmd/patrol/config"
	"patrol/models/store"
)

func (p *process) backupCommand() *cobra.Command {
	o := &operator{process: p}
	var force bool
	var keys string
	cmd := &cobra.Command{
		Use:     "backup <file>",
		GroupID: groupOperator,
		Short:   "Write a copy of the database to a file, while it is in use",
		Long: `Write a copy of the database, as of one moment, to a file that only its owner can read; servers go on meanwhile. With SQLite the file is a
database, checked and on the disk; with PostgreSQL it is an archive of pg_dump, which must be installed. The file appears when it is whole.

The token keys are not in it: without them no token verifies, and with both anybody can make tokens. Keep them apart; --keys writes them to a
file of their own. Neither are the tombstones, which must be newer than the backup to be of use, nor a decision log in a database of its own.`,
		Example: `  patrol backup /var/backups/patrol-monday
  patrol backup /var/backups/patrol-monday --keys /media/safe/patrol.keys`,
		Args: cobra.ExactArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		err := writeFile(args[0], force, func(tmp string) error {
			if o.cfg.Database.OnSQLite() {
				return store.BackupSQLite(ctx, o.cfg.Database.SQLitePath(), tmp)
			}
			return o.postgresTool(ctx, o.cfg.Database.URL, "pg_dump", "--format=custom", "--file="+tmp)
		})
		if err != nil {
			return fmt.Errorf("back up to %s: %w", args[0], err)
		}
		if keys != "" {
			text, err := keyText(o.cfg)
			if err != nil {
				return err
			}
			if err := writeFile(keys, force, func(tmp string) error { return os.WriteFile(tmp, text, 0o600) }); err != nil {
				return fmt.Errorf("write the token keys to %s: %w", keys, err)
			}
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "The database is in %s.\n", args[0])
		return err
	})
	cmd.Flags().BoolVar(&force, "force", false, "replace files that are there")
	cmd.Flags().StringVar(&keys, "keys", "", "write the token keys to this file, too")
	return cmd
}

// writeFile makes a file whole or not at all, for its owner only, and on the disk.
func writeFile(path string, force bool, write func(tmp string) error) (err error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return errors.New("the file is there already; --force replaces it")
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removed := os.Remove(tmp.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}()
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := write(tmp.Name()); err != nil {
		return err
	}
	f, err := os.OpenFile(tmp.Name(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if force {
		err = os.Rename(tmp.Name(), path)
	} else {
		err = os.Link(tmp.Name(), path) // which replaces nothing
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// keyText returns the text of the ring in use.
func keyText(cfg config.Config) ([]byte, error) {
	if path := keyRingFile(cfg); path != "" {
		text, err := os.ReadFile(path) //nolint:gosec // the operator names it
		if err != nil {
			return nil, fmt.Errorf("read the token keys: %w", err)
		}
		return text, nil
	}
	if cfg.TokenKeys == "" {
		return nil, errors.New("there are no token keys here: set token_keys (PATROL_TOKEN_KEYS) as on the servers")
	}
	return []byte(strings.ReplaceAll(cfg.TokenKeys.Reveal(), ",", "\n") + "\n"), nil
}

// postgresTool runs a program of PostgreSQL on a database. The password is in the
// program's environment, not among its arguments, which every user of the machine
// can read.
func (p *process) postgresTool(ctx context.Context, database config.URL, name string, args ...string) error {
	_, err := p.postgresOutput(ctx, database, name, args...)
	return err
}

func (p *process) postgresOutput(ctx context.Context, database config.URL, name string, args ...string) (string, error) {
	path, err := findPostgres(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the operator's own settings
	cmd.Env = append([]string{}, p.environ...)
	if database != "" {
		u, err := url.Parse(database.Reveal())
		if err != nil {
			return "", errors.New("the database URL cannot be read")
		}
		query := u.Query()
		password, given := u.User.Password()
		if query.Has("password") {
			password, given = query.Get("password"), true
			query.Del("password")
		}
		if given {
			cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
			u.User = url.User(u.User.Username())
		}
		for _, own := range []string{"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "pool_max_conns"} {
			query.Del(own) // of the driver, and unknown to libpq
		}
		u.RawQuery = query.Encode()
		cmd.Args = append(cmd.Args, "--dbname="+u.String(), "--no-password")
	}
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// findPostgres finds a program of PostgreSQL; Debian keeps those of each version
// apart.
func findPostgres(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		return found[len(found)-1], nil
	}
	return "", fmt.Errorf("%s is not installed: it comes with the client programs of PostgreSQL", name)
}
