package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"patrol/models/store"
	"patrol/policies/engine"
)

// checkDatabase looks at the database, and at all that can be judged by what is in it.
func (d *doctor) checkDatabase(ctx context.Context) {
	if d.cfg.Database.OnSQLite() {
		path := d.cfg.Database.SQLitePath()
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			d.add("database", skipped, "there is no database at "+path+" yet", "'patrol serve' makes it; if it should be there, correct data_dir or database.url")
			d.checkKeys(ctx, nil)
			return
		}
	}
	within(ctx, func(ctx context.Context) {
		s, err := store.Open(ctx, store.Config{
			URL: d.cfg.Database.URL.Reveal(), ListenURL: d.cfg.Database.ListenURL.Reveal(), Limits: d.cfg.Tokens.Limits(), MaxConns: store.MinConns,
		})
		if err != nil {
			d.add("database", failed, fmt.Sprintf("%s cannot be opened: %s", d.cfg.Database.URL, explain(err)), "start it, and correct database.url (PATROL_DATABASE_URL)")
			d.checkKeys(ctx, nil)
			return
		}
		defer func() { _ = s.Close() }()
		d.examineDatabase(ctx, s)
	})
}

func (d *doctor) examineDatabase(ctx context.Context, s *store.Store) {
	begin := time.Now()
	v, err := s.Vitals(ctx)
	if err != nil {
		d.add("database", failed, fmt.Sprintf("%s does not answer: %s", d.cfg.Database.URL, explain(err)), "look at the database's own log")
		d.checkKeys(ctx, nil)
		return
	}
	took := time.Since(begin)
	apart := v.Now.Sub(begin.Add(took / 2)).Abs()
	found := fmt.Sprintf("%s, %s, answers in %s", d.cfg.Database.URL, v.Server, took.Round(100*time.Microsecond))
	if took > 100*time.Millisecond {
		d.add("database", warning, found, "put the server nearer to its database: whatever is not cached waits for it")
	} else {
		d.add("database", well, found, "")
	}
	version, err := s.SchemaVersion(ctx)
	if err == nil {
		err = s.CheckSchema(ctx)
	}
	switch {
	case err != nil && d.cfg.Database.Migrate && version == 0:
		d.add("schema", skipped, "the database is empty", "'patrol serve' makes the schema")
	case err != nil && d.cfg.Database.Migrate && strings.Contains(explain(err), "patrol migrate"):
		d.add("schema", warning, explain(err), "back the database up; 'patrol serve' of this version brings the schema up to date")
	case err != nil:
		d.add("schema", failed, explain(err), "back the database up, and do what it says")
	default:
		d.add("schema", well, fmt.Sprintf("version %d, as this program needs it", version), "")
	}
	if err != nil {
		d.checkKeys(ctx, nil)
		return
	}
	d.checkWrites(ctx, s)
	d.checkFeed(ctx, s)
	d.checkConnections(ctx, s, v)
	d.checkClock(ctx, s, apart)
	d.checkKeys(ctx, s)
	d.checkDecisions(ctx)
}

// checkWrites writes what changes nothing.
func (d *doctor) checkWrites(ctx context.Context, s *store.Store) {
	if err := s.Writable(ctx); err != nil {
		d.add("database", failed, "the database cannot be written: "+explain(err), "without writing no token can be revoked: make room, or find the primary")
	}
	if !d.cfg.Database.OnSQLite() && d.cfg.TombstonesPath() == "" {
		d.add("database", warning, "no file of tombstones is kept: a restored backup would bring revoked tokens back to life", "set tombstones.path to a file on a disk that outlives the server")
	}
}

func (d *doctor) checkFeed(ctx context.Context, s *store.Store) {
	if locked, err := s.FeedLocked(ctx); err == nil && locked {
		d.add("schema", warning, "writes wait for each other, for servers of the version before", "once none of them runs, run 'patrol migrate --finish'")
	}
}

// checkConnections holds what the servers may use against what the database gives.
func (d *doctor) checkConnections(ctx context.Context, s *store.Store, v store.Vitals) {
	switch {
	case d.cfg.Database.OnSQLite():
		return
	case v.Pooled:
		d.add("connections", skipped, "a pooler is before the database", "give it a default_pool_size of what the servers use at a time; see operations.md, PgBouncer")
		return
	}
	servers, err := s.Servers(ctx)
	if err != nil {
		d.add("connections", failed, explain(err), "look at the database's own log")
		return
	}
	each := store.ServerConns(d.cfg.Database.MaxConns)
	// One more server than there are: an upgrade starts the new one before the old one ends.
	needed := each*(len(servers)+1) + v.OtherConns
	found := fmt.Sprintf("%d servers with database.max_conns %d each, and one more in an upgrade, and %d connections of other programs: %d of %d",
		len(servers), each, v.OtherConns, needed, v.MaxConns)
	if needed > v.MaxConns {
		d.add("connections", warning, found, "lower database.max_conns, raise max_connections (or the role's or database's CONNECTION LIMIT), or use PgBouncer")
		return
	}
	d.add("connections", well, found, "")
}

// drift is the difference between two clocks of which there is a warning.
const drift = 2 * time.Second

// checkClock holds this machine's clock against the database's, from which it is so far apart,
// and against what has happened.
func (d *doctor) checkClock(ctx context.Context, s *store.Store, apart time.Duration) {
	if err := checkClock(ctx, d.cfg, s, d.now); err != nil {
		d.add("clock", failed, explain(err), "have the clock set by NTP")
		return
	}
	if apart > drift {
		d.add("clock", warning, fmt.Sprintf("this machine's clock and the database's are %s apart", apart.Round(time.Second)), "have both set by NTP: tokens end by the clock of the server that judges them")
		return
	}
	d.add("clock", well, "not behind the database", "")
}

// checkKeys looks for the keys that stored tokens need. With s nil there are none that can be
// known.
func (d *doctor) checkKeys(ctx context.Context, s *store.Store) {
	ring, from, err := configuredKeys(d.cfg)
	path := filepath.Join(d.cfg.DataDir, keyFile)
	if err == nil && from == "" && d.cfg.Database.OnSQLite() {
		ring, err = readKeys(path)
		if errors.Is(err, os.ErrNotExist) && s == nil {
			d.add("keys", skipped, "there are no token keys yet", "'patrol serve' makes one in "+path)
			return
		}
		from = path
	}
	switch {
	case err != nil:
		d.add("keys", failed, explain(err), "restore the ring from its backup: without it no token verifies")
		return
	case from == "":
		d.add("keys", failed, "token_keys (PATROL_TOKEN_KEYS) is not set, and is required with PostgreSQL", "set it to the ring of the other servers; on the first, to k1:$(openssl rand -base64 32)")
		return
	case s == nil:
		d.add("keys", well, fmt.Sprintf("%d in the ring; what the tokens need is not known without the database", len(ring.IDs())), "")
		return
	}
	keeper := &keyKeeper{cfg: d.cfg, store: s, source: ring}
	if _, err := keeper.arrange(ctx, ring); err != nil {
		d.add("keys", failed, explain(err), "restore the ring with that key; if the key is lost for good, see 'patrol keys reset'")
		return
	}
	d.add("keys", well, fmt.Sprintf("%d in the ring, among them all that stored tokens need", len(ring.IDs())), "")
}

// checkDecisions looks at the database of the decision log.
func (d *doctor) checkDecisions(ctx context.Context) {
	if !d.cfg.DecisionLog.Database {
		return
	}
	if path, ok := strings.CutPrefix(d.cfg.DecisionsDatabase().Reveal(), "sqlite://"); ok {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return // it is made with the first start, and as a private file
		}
	}
	cfg := d.cfg
	cfg.Database.Migrate, cfg.Database.MaxConns = false, store.MinConns
	decisions, err := openDecisions(ctx, cfg, store.Config{})
	if err != nil {
		d.add("decision log", warning, explain(err), "'patrol migrate' brings its schema up to date; start its database if it is away")
		return
	}
	_ = decisions.Close()
	d.add("decision log", well, fmt.Sprintf("%s answers", d.cfg.DecisionsDatabase()), "")
}

// checkPolicy reads and loads the configured policy.
func (d *doctor) checkPolicy(ctx context.Context) {
	within(ctx, func(ctx context.Context) {
		name := d.cfg.Policy
		if name == "" {
			name = "the embedded policy"
		}
		verifier, err := policyVerifier(d.cfg.Bundle)
		if err != nil {
			d.add("policy", failed, "bundle.keys: "+explain(err), "correct bundle.keys")
			return
		}
		source, err := policySource(d.cfg.Bundle, d.cfg.Policy, d.cfg.Bundle.Credential, verifier)
		if err != nil {
			d.add("policy", failed, explain(err), "correct policy (PATROL_POLICY)")
			return
		}
		bundle, err := source.Next(ctx)
		if err == nil && bundle == nil {
			err = errors.New("it holds nothing")
		}
		if err != nil {
			d.add("policy", failed, fmt.Sprintf("%s cannot be read: %s", name, explain(err)), "correct policy and bundle; until then the policy that was in force last decides")
			return
		}
		snapshot, err := engine.Load(ctx, bundle.Source)
		if err != nil {
			d.add("policy", failed, fmt.Sprintf("%s cannot be loaded: %s", name, explain(err)), "run 'patrol policy check "+d.cfg.Policy+"', and correct what it says")
			return
		}
		d.add("policy", well, fmt.Sprintf("%s can be loaded; its revision is %s", name, snapshot.Revision()), "")
	})
}
