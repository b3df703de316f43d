package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
)

// keyKeeper keeps a server's key ring up to date: with the file that it comes from,
// and with what the database says was promoted and retired; and tells the others
// what is in it.
type keyKeeper struct {
	cfg    config.Config
	store  *store.Store
	log    *slog.Logger
	ring   models.Keyring // what the server works with
	source models.Keyring // as it was last read, in its own order
	server string
	name   string
	failed string // the last failure that was told
}

// keysEvery is the interval at which the ring's file and the database are looked at.
const keysEvery = 2 * time.Second

// newKeyKeeper arranges the ring that a server starts with.
func newKeyKeeper(ctx context.Context, cfg config.Config, s *store.Store, source models.Keyring, log *slog.Logger) (*keyKeeper, error) {
	k := &keyKeeper{cfg: cfg, store: s, log: log, source: source, server: models.NewID()}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	k.name = fmt.Sprintf("%s (process %d)", host, os.Getpid())
	if k.ring, err = k.arrange(ctx, source); err != nil {
		return nil, err
	}
	if first := source.IDs()[0]; first != k.ring.Current() {
		log.WarnContext(ctx, "new tokens are made of the key that was promoted, not of the first one of the ring; see 'patrol keys promote'",
			"promoted", k.ring.Current(), "first", first)
	}
	return k, nil
}

// arrange puts a ring in the order that the database asks for. It refuses one that
// lacks a key of a stored token, or has another one under its id.
func (k *keyKeeper) arrange(ctx context.Context, source models.Keyring) (models.Keyring, error) {
	state, err := k.store.KeyState(ctx)
	if err != nil {
		return models.Keyring{}, err
	}
	used, err := k.store.KeyIDs(ctx)
	if err != nil {
		return models.Keyring{}, err
	}
	if missing := lacking(source, used); len(missing) > 0 {
		return models.Keyring{}, fmt.Errorf("stored tokens need the %s, which the ring does not have", naming(missing))
	}
	var other []string
	for _, id := range used {
		if check := state.Checks[id]; check != "" && check != source.Check(id) {
			other = append(other, id)
		}
	}
	if len(other) > 0 {
		return models.Keyring{}, fmt.Errorf("the ring has another secret under the id of the %s than the one that stored tokens were hashed with: "+
			"no token of it would verify; restore the right one, or see 'patrol keys reset'", naming(other))
	}
	return source.Arrange(state.Promoted, state.Retired)
}

// run keeps the ring until ctx ends.
func (k *keyKeeper) run(ctx context.Context) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysEvery)
		defer cancel()
		if err := k.store.ForgetKeys(last, k.server); err != nil {
			k.log.WarnContext(last, "the report of this server's key ring could not be taken back", "error", err)
		}
	}()
	for {
		k.tell(ctx, k.look(ctx))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell logs a failure once, and its end.
func (k *keyKeeper) tell(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	text := ""
	if err != nil {
		text = explain(err)
	}
	switch {
	case text == k.failed:
	case text != "":
		k.log.ErrorContext(ctx, "the key ring could not be brought up to date; the one of before stays in use", "keys", k.ring.IDs(), "error", text)
	default:
		k.log.InfoContext(ctx, "the key ring is up to date again", "keys", k.ring.IDs())
	}
	k.failed = text
}

// look reads the ring's file and the database again, and reports.
func (k *keyKeeper) look(ctx context.Context) error {
	read, failure := k.read()
	if failure == nil {
		var next models.Keyring
		if next, failure = k.arrange(ctx, read); failure == nil {
			if k.differs(next) {
				k.log.InfoContext(ctx, "the key ring changed", "keys", next.IDs(), "current", next.Current())
			}
			k.source = read
			k.ring.Replace(next)
		}
	}
	report := store.ServerKeys{Server: k.server, Name: k.name}
	for i, id := range k.ring.IDs() {
		report.Keys = append(report.Keys, store.ServerKey{ID: id, Check: k.ring.Check(id), Current: i == 0})
	}
	return errors.Join(failure, k.store.ReportKeys(ctx, report))
}

// read returns the ring as it is in its file now, or what it was if it is in none.
func (k *keyKeeper) read() (models.Keyring, error) {
	path := keyRingFile(k.cfg)
	if path == "" {
		return k.source, nil
	}
	if _, err := checkFiles(k.cfg, path); err != nil {
		return models.Keyring{}, err
	}
	return readKeys(path)
}

func (k *keyKeeper) differs(next models.Keyring) bool {
	if !slices.Equal(next.IDs(), k.ring.IDs()) {
		return true
	}
	return slices.ContainsFunc(next.IDs(), func(id string) bool { return next.Check(id) != k.ring.Check(id) })
}

// ringText writes keys in the form of a ring's file.
func ringText(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
