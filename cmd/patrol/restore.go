package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/tombstones"
)

// restoration is a run of `patrol restore`.
type restoration struct {
	*process
	cfg     config.Config
	by      models.Actor
	say     io.Writer
	backup  string
	given   []string // files of tombstones
	revived bool     // what no tombstone is there of may be good again
	foreign bool     // the database in place may be of another installation
	earlier bool     // an earlier policy may come into force
}

func (p *process) restoreCommand() *cobra.Command {
	r := &restoration{process: p}
	cmd := &cobra.Command{
		Use:     "restore <file>",
		GroupID: groupOperator,
		Short:   "Replace the database by a backup, without giving back what was taken away since",
		Long: `Replace the database by a copy that 'patrol backup' wrote. No server may run on it.

What was revoked, disabled or removed since the backup is taken away again, by the tombstones that each server wrote: give the files of all
servers. If one is missing that a server is known to have written, nothing is done unless --accept-revived says that what it held may be good
again. All sessions and one-time codes end. With SQLite the database of before stays beside the new one.`,
		Example: `  patrol restore /var/backups/patrol-monday
  patrol restore /var/backups/patrol-monday --from-tombstones a/patrol-tombstones,b/patrol-tombstones`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.cfg, err = p.settings(cmd); err != nil {
				return err
			}
			r.by, r.say, r.backup = operatorActor(cmd), cmd.ErrOrStderr(), args[0]
			warnings, err := checkFiles(r.cfg, append(append(privateFiles(r.cfg), r.backup), r.given...)...)
			if err != nil {
				return err
			}
			for _, text := range warnings {
				if _, err := fmt.Fprintf(r.say, "patrol: warning: %s\n", text); err != nil {
					return err
				}
			}
			if r.cfg.Database.OnSQLite() {
				return r.sqlite(cmd.Context())
			}
			return r.postgres(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&r.given, "from-tombstones", nil, "files of tombstones, those of all servers; the configured one is always among them")
	cmd.Flags().BoolVar(&r.revived, "accept-revived", false, "go on although tombstones are missing: what was revoked since may be good again")
	cmd.Flags().BoolVar(&r.earlier, "earlier-policy", false, "go on although another policy came into force since: that of the backup is in force again")
	cmd.Flags().BoolVar(&r.foreign, "other-installation", false, "replace a database that the backup is not of")
	return cmd
}

// state is the part of a database's state that its restore depends on.
type state struct {
	installation string
	files        []store.TombstoneFile
	digest       string // of the policy in force
	policy       string // its revision
	promoted     string // the key that new tokens are made of, if that was said
}

func stateOf(ctx context.Context, s *store.Store) (st state, err error) {
	if st.installation, err = s.Installation(ctx); err != nil {
		return st, err
	}
	if st.files, err = s.TombstoneFiles(ctx); err != nil {
		return st, err
	}
	policy, err := s.PolicyState(ctx)
	if err != nil {
		return st, err
	}
	st.digest, st.policy = policy.Digest, policy.Revision
	keys, err := s.KeyState(ctx)
	st.promoted = keys.Promoted
	return st, err
}

// current returns the state of the database that is in place, empty if there is
// none that can be read.
func (r *restoration) current(ctx context.Context) (st state, err error) {
	s, err := store.Open(ctx, store.Config{URL: r.cfg.Database.URL.Reveal()})
	if err != nil {
		if r.cfg.Database.OnSQLite() {
			return state{}, nil // a damaged one is a reason to restore
		}
		return state{}, fmt.Errorf("open the database %s: %w", r.cfg.Database.URL, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	has, err := s.HasSchema(ctx)
	if err != nil || !has {
		if r.cfg.Database.OnSQLite() {
			err = nil // likewise
		}
		return state{}, err
	}
	return stateOf(ctx, s)
}

// collect reads the tombstones and refuses to go on without those of a server that
// is known to have written some.
func (r *restoration) collect(backup, current state) ([]models.Tombstone, error) {
	if current.installation != "" && backup.installation != current.installation && !r.foreign {
		return nil, errors.New("the database in place is of another installation of Patrol than the backup; --other-installation replaces it all the same")
	}
	paths := slices.Clone(r.given)
	if own := r.cfg.TombstonesPath(); own != "" && !slices.Contains(paths, own) {
		if _, err := os.Stat(own); err == nil || !errors.Is(err, fs.ErrNotExist) {
			paths = append(paths, own)
		}
	}
	var stones []models.Tombstone
	have := map[string]bool{}
	var missing []string
	for _, path := range paths {
		content, err := tombstones.Read(path)
		if err != nil {
			return nil, err
		}
		if content.Header.Installation != backup.installation {
			if r.foreign && !slices.Contains(r.given, path) {
				continue // of what is replaced
			}
			return nil, fmt.Errorf("the tombstones in %s are of another installation of Patrol than the backup", path)
		}
		if content.Damaged > 0 {
			missing = append(missing, fmt.Sprintf("%d damaged lines of %s", content.Damaged, path))
		}
		have[content.Header.ID] = true
		stones = append(stones, content.Tombstones...)
	}
	seen := map[string]bool{}
	for _, f := range append(slices.Clone(backup.files), current.files...) {
		if !have[f.ID] && !seen[f.ID] && (current.installation == "" || current.installation == backup.installation || slices.Contains(backup.files, f)) {
			seen[f.ID] = true
			missing = append(missing, f.Server)
		}
	}
	if len(paths) == 0 && len(missing) == 0 {
		missing = []string{"any server: none wrote tombstones (tombstones.path)"}
	}
	if len(missing) > 0 && !r.revived {
		return nil, fmt.Errorf("there are no tombstones of %s: what was revoked, disabled or removed since the backup would be good again; "+
			"name the files with --from-tombstones, or go on with --accept-revived", strings.Join(missing, ", "))
	}
	for _, m := range missing {
		if _, err := fmt.Fprintf(r.say, "What was taken away may be there again, for want of tombstones of %s.\n", m); err != nil {
			return nil, err
		}
	}
	return stones, nil
}

// accept returns the tombstones that are to be applied to a backup, or why it is not to be put
// in place.
func (r *restoration) accept(backup, before state) ([]models.Tombstone, error) {
	stones, err := r.collect(backup, before)
	if err != nil {
		return nil, err
	}
	return stones, r.checkPolicy(before, backup, stones)
}

// finish makes a restored database fit to be served.
func (r *restoration) finish(ctx context.Context, s *store.Store, stones []models.Tombstone) error {
	done, err := s.Reapply(ctx, r.by, stones)
	if err != nil {
		return err
	}
	for _, what := range done {
		if _, err := fmt.Fprintf(r.say, "Taken away again: %s\n", what); err != nil {
			return err
		}
	}
	return s.EndAccess(ctx, r.by)
}

func (r *restoration) sqlite(ctx context.Context) (err error) {
	path := r.cfg.Database.SQLitePath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the database's folder: %w", err)
	}
	if err := store.CheckSQLite(ctx, r.backup); err != nil {
		return fmt.Errorf("read the backup %s: %w", r.backup, err)
	}
	var before state
	if _, err := os.Stat(path); err == nil {
		if before, err = r.current(ctx); err != nil {
			return err
		}
	}
	// The backup itself stays as it is: SQLite makes a copy of it, and what is left of
	// an earlier run is nobody's.
	next := path + "-restoring"
	remove := func() error {
		var errs []error
		for _, suffix := range []string{"", "-wal", "-shm", "-migrate", "-journal"} {
			if err := os.Remove(next + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	if err := remove(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := os.WriteFile(next, nil, 0o600); err != nil {
		return err
	}
	if err := store.BackupSQLite(ctx, r.backup, next); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{URL: "sqlite://" + next, Limits: r.cfg.Tokens.Limits()})
	if err != nil {
		return fmt.Errorf("open the backup: %w", err)
	}
	err = r.prepare(ctx, s, before)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	keep := unused(path + "-before-" + time.Now().UTC().Format("20060102T150405Z"))
	if err := store.ReplaceSQLite(ctx, path, next, keep); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return r.told(path)
}

// unused returns the path, with a number behind it if there is something already.
func unused(path string) string {
	name := path
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); err != nil { //nolint:gosec // beside the database that the operator names
			return name
		}
		name = fmt.Sprint(path, "-", n)
	}
}

// prepare brings a backup that is not in place yet up to date.
func (r *restoration) prepare(ctx context.Context, s *store.Store, before state) error {
	if _, _, err := s.Migrate(ctx); err != nil {
		return err
	}
	backup, err := stateOf(ctx, s)
	if err != nil {
		return err
	}
	stones, err := r.accept(backup, before)
	if err != nil {
		return err
	}
	if err := r.finish(ctx, s, stones); err != nil {
		return err
	}
	return r.tellPromoted(before, backup)
}

// checkPolicy refuses to put an earlier policy in force that may permit more, unless
// that is meant. No tombstone helps there: it has no policy in it.
func (r *restoration) checkPolicy(before, backup state, stones []models.Tombstone) error {
	digest, revision := before.digest, before.policy
	if digest == "" || before.installation != backup.installation {
		digest, revision = store.LastPolicy(stones)
	}
	if digest == "" || digest == backup.digest {
		return nil
	}
	if !r.earlier {
		return fmt.Errorf("another policy came into force since the backup: revision %s, not %s, which may permit more; have a server deliver the later one "+
			"after the restore, and go on with --earlier-policy", revision, backup.policy)
	}
	_, err := fmt.Fprintf(r.say, "The policy in force is that of the backup again: revision %s, not %s. Deliver the later one anew, or see 'patrol policy history'.\n", backup.policy, revision)
	return err
}

// tellPromoted says if new tokens are made of another key again.
func (r *restoration) tellPromoted(before, restored state) error {
	if before.promoted == "" || before.promoted == restored.promoted {
		return nil
	}
	_, err := fmt.Fprintf(r.say, "It is not known any more that new tokens are to be made of the key %s: see 'patrol keys promote'.\n", before.promoted)
	return err
}

func (r *restoration) told(place string) error {
	_, err := fmt.Fprintf(r.say, "The backup %s is restored to %s. Start the servers.\n", r.backup, place)
	return err
}

func (r *restoration) postgres(ctx context.Context) (err error) {
	if _, err := r.postgresOutput(ctx, "", "pg_restore", "--list", r.backup); err != nil {
		return fmt.Errorf("read the backup %s: %w", r.backup, err)
	}
	backup, err := r.archived(ctx)
	if err != nil {
		return err
	}
	before, err := r.current(ctx)
	if err != nil {
		return err
	}
	stones, err := r.accept(backup, before)
	if err != nil {
		return err
	}
	open := func() (*store.Store, error) {
		s, err := store.Open(ctx, store.Config{URL: named(r.cfg.Database.URL), Limits: r.cfg.Tokens.Limits(), Restoring: true})
		if err != nil {
			return nil, fmt.Errorf("open the database %s: %w", r.cfg.Database.URL, err)
		}
		return s, nil
	}
	s, err := open()
	if err != nil {
		return err
	}
	// Its connections would know tables that are not there any more.
	if err := errors.Join(s.BeginRestore(ctx), s.Close()); err != nil {
		return err
	}
	err = r.postgresTool(ctx, r.cfg.Database.URL, "pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", r.backup)
	if err != nil {
		return fmt.Errorf("nothing was restored, and servers do not use the database until 'patrol restore' has succeeded: %w", err)
	}
	if s, err = open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, _, err := s.Migrate(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx, s, stones); err != nil {
		return err
	}
	restored, err := stateOf(ctx, s)
	if err != nil {
		return err
	}
	if err := r.tellPromoted(before, restored); err != nil {
		return err
	}
	if err := s.FinishRestore(ctx); err != nil {
		return err
	}
	return r.told(r.cfg.Database.URL.String())
}

// named is the database's URL for connections that no server makes.
func named(u config.URL) string {
	text, sep := u.Reveal(), "?"
	if strings.Contains(text, "?") {
		sep = "&"
	}
	return text + sep + "application_name=patrol-restore"
}

// archived reads the state that an archive holds, without a database to restore it
// to.
func (r *restoration) archived(ctx context.Context) (st state, err error) {
	rows := func(table string) ([][]string, error) {
		out, err := r.postgresOutput(ctx, "", "pg_restore", "--data-only", "--table="+table, "--file=-", r.backup)
		if err != nil {
			return nil, fmt.Errorf("read the backup %s: %w", r.backup, err)
		}
		return copied(out), nil
	}
	installation, err := rows("installation")
	if err != nil {
		return st, err
	}
	if len(installation) != 1 || installation[0][1] == "" {
		return st, fmt.Errorf("the backup %s is of no database of this version of Patrol, or of an earlier one", r.backup)
	}
	st.installation = installation[0][1]
	policy, err := rows("policy_state")
	if err != nil {
		return st, err
	}
	if len(policy) == 1 && len(policy[0]) > 3 {
		st.digest, st.policy = policy[0][1], policy[0][3]
	}
	files, err := rows("tombstone_files")
	for _, row := range files {
		st.files = append(st.files, store.TombstoneFile{ID: row[0], Server: row[1]})
	}
	return st, err
}

// copied returns the rows in the output of pg_restore.
func copied(script string) (rows [][]string) {
	inside := false
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "COPY "):
			inside = true
		case line == `\.`:
			inside = false
		case inside:
			if fields := strings.Split(line, "\t"); len(fields) > 1 {
				rows = append(rows, fields)
			}
		}
	}
	return rows
}
