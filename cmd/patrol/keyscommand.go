package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/models/store"
)

func (p *process) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		GroupID: groupOperator,
		Short:   "The keys that tokens are hashed with: change them while servers run",
		Long: `Change the key that new tokens are hashed with, in two phases, so that no server ever lacks the key of a token: first every server gets the new
key, then it is promoted. A server follows the file of its ring within seconds; one whose ring is in PATROL_TOKEN_KEYS is restarted.`,
		Example: `  patrol keys add k2
  patrol keys status
  patrol keys promote k2
  patrol keys retire k1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.keysStatusCommand(), p.keysAddCommand(),
		p.keysChangeCommand("promote <id>", "Hash new tokens with a key, on all servers",
			`Hash new tokens with a key, on all servers, and wait until they do. It is refused while a server that runs does not have the key in its ring, or has
another secret under its id.`,
			promoteKey, "New tokens are made of the key %s from now on. Older tokens stay good as long as their key is in the ring.\n"),
		p.keysChangeCommand("retire <id>", "Take a key out of use for good",
			`Take a key out of use for good, so that it can be taken out of all rings. It is refused while a token of it is alive or a server makes new ones of
it. Dead tokens of it stay listed, and are unknown to whoever presents them.`,
			(*store.Store).RetireKey, "The key %s is retired: take it out of every ring.\n"),
		p.keysChangeCommand("reset <id>", "Forget which secret the id of a key means",
			`Forget which secret the id of a key means, which the first server that had it said. It is for the case that this server was started with a wrong
secret; then it must be stopped first.`,
			(*store.Store).ResetKey, "The next server that has a key %s in its ring says which secret it is.\n"))
	return cmd
}

func (p *process) keysChangeCommand(use, short, long string, change func(*store.Store, context.Context, models.Actor, string) error, done string) *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1)}
	o.command(cmd, func(ctx context.Context, args []string) error {
		if err := change(o.store, ctx, o.by, args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), done, args[0])
		return err
	})
	return cmd
}

// followWithin is the time that servers may take to follow a promotion.
const followWithin = 15 * time.Second

// promoteKey promotes a key and waits until every server that runs makes new
// tokens of it.
func promoteKey(s *store.Store, ctx context.Context, by models.Actor, id string) error { //nolint:revive // in the form of the store's methods
	if err := s.PromoteKey(ctx, by, id); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(followWithin); ; {
		servers, err := s.KeyServers(ctx)
		if err != nil {
			return err
		}
		var behind []string
		for _, server := range servers {
			if !slices.ContainsFunc(server.Keys, func(k store.ServerKey) bool { return k.ID == id && k.Current }) {
				behind = append(behind, server.Name)
			}
		}
		switch {
		case len(behind) == 0:
			return nil
		case time.Now().After(deadline):
			return models.NewError(models.CodeUnavailable, fmt.Sprintf(
				"the key %s is promoted, but %s has not followed yet: see 'patrol keys status'", id, strings.Join(behind, ", ")))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// keyStatus is a key as `patrol keys status` shows it.
type keyStatus struct {
	ID      string   `json:"id"`
	State   string   `json:"state"` // current, known, retired or missing
	Live    int      `json:"live_tokens"`
	Dead    int      `json:"dead_tokens"`
	Servers []string `json:"servers"` // that have it
	Lacking []string `json:"servers_without"`
	Other   []string `json:"servers_with_another_secret"`
}

func (p *process) keysStatusCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Which keys there are, on which servers, and what needs them",
		Long: `List the keys that servers have in their rings or that tokens need, how many tokens are of each, and which servers have it. A server is among them
for a minute after it was last heard of. No key is shown.`,
		Args: cobra.NoArgs,
	}
	o.command(cmd, func(ctx context.Context, _ []string) error {
		keys, servers, err := o.keyStatus(ctx)
		if err != nil {
			return err
		}
		if o.json() {
			return o.printJSON(map[string]any{"keys": keys, "servers": servers})
		}
		rows := make([][]string, len(keys))
		for i, k := range keys {
			where := fmt.Sprintf("%d of %d", len(k.Servers), len(servers))
			if len(k.Lacking) > 0 && k.State != "retired" {
				where += ", not " + strings.Join(k.Lacking, ", ")
			}
			if len(k.Other) > 0 {
				where += ", another secret on " + strings.Join(k.Other, ", ")
			}
			rows[i] = []string{k.ID, k.State, strconv.Itoa(k.Live), strconv.Itoa(k.Dead), where}
		}
		return o.printTable([]column{{title: "KEY"}, {title: "STATE"}, {title: "LIVE TOKENS"}, {title: "DEAD TOKENS"}, {title: "SERVERS"}}, rows)
	})
	return cmd
}

func (o *operator) keyStatus(ctx context.Context) (keys []*keyStatus, names []string, err error) {
	state, err := o.store.KeyState(ctx)
	if err != nil {
		return nil, nil, err
	}
	uses, err := o.store.KeyUses(ctx)
	if err != nil {
		return nil, nil, err
	}
	servers, err := o.store.KeyServers(ctx)
	if err != nil {
		return nil, nil, err
	}
	byID := map[string]*keyStatus{}
	key := func(id, state string) *keyStatus {
		if byID[id] == nil {
			byID[id] = &keyStatus{ID: id, State: state, Servers: []string{}, Lacking: []string{}, Other: []string{}}
			keys = append(keys, byID[id])
		}
		return byID[id]
	}
	for id := range state.Checks {
		key(id, "known")
	}
	for _, id := range state.Retired {
		key(id, "retired")
	}
	for _, use := range uses {
		k := key(use.KeyID, "missing")
		k.Live, k.Dead = use.Live, use.Dead
	}
	names = []string{}
	for _, server := range servers {
		names = append(names, server.Name)
		for _, k := range server.Keys {
			entry := key(k.ID, "known")
			entry.Servers = append(entry.Servers, server.Name)
			if k.Current && entry.State == "known" {
				entry.State = "current"
			}
			if check := state.Checks[k.ID]; check != "" && check != k.Check {
				entry.Other = append(entry.Other, server.Name)
			}
		}
	}
	for _, k := range keys {
		for _, name := range names {
			if !slices.Contains(k.Servers, name) {
				k.Lacking = append(k.Lacking, name)
			}
		}
		if k.State == "known" && k.ID == state.Promoted {
			k.State = "current"
		}
	}
	slices.SortFunc(keys, func(a, b *keyStatus) int { return strings.Compare(a.ID, b.ID) })
	return keys, names, nil
}

func (p *process) keysAddCommand() *cobra.Command {
	o := &operator{process: p}
	var from string
	cmd := &cobra.Command{
		Use:   "add [<id>]",
		Short: "Put a new key behind the others in this machine's ring",
		Long: `Make a key and put it behind the others in the file of the ring, for its owner's eyes only: tokens of it verify, and none are made of it yet.
--from adds the keys of another file instead, such as the ring of the first server that got the key. Where the ring is in PATROL_TOKEN_KEYS, the
key is printed, to be put behind the others there, on every server.`,
		Example: `  patrol keys add k2
  patrol keys add --from /media/safe/ring-of-the-first-server`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(_ context.Context, args []string) error {
		id := "k" + time.Now().UTC().Format("20060102-150405")
		if len(args) > 0 {
			id = args[0]
		}
		path := keyRingFile(o.cfg)
		var text []byte
		var err error
		if path != "" {
			if text, err = os.ReadFile(path); err != nil { //nolint:gosec // the operator names it
				if errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("there is no key ring at %s yet: the server makes it at its first start", path)
				}
				return fmt.Errorf("read the token keys: %w", err)
			}
		} else {
			text = []byte(o.cfg.TokenKeys.Reveal())
		}
		before, err := models.ParseKeyring(string(text))
		if err != nil {
			return fmt.Errorf("read the token keys: %w", err)
		}
		if _, err := checkFiles(o.cfg, from); err != nil {
			return err
		}
		lines, err := newKeys(before, id, from)
		if err != nil {
			return err
		}
		if path == "" {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n")); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.ErrOrStderr(), "Put this behind the other keys in PATROL_TOKEN_KEYS on every server, and restart them one after the other.\n"+
				"When 'patrol keys status' shows the key on all of them, promote it.")
			return err
		}
		whole := append(strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }), lines...)
		if _, err := models.ParseKeyring(string(ringText(whole))); err != nil {
			return err
		}
		err = writeFile(path, true, func(tmp string) error {
			return os.WriteFile(tmp, ringText(whole), 0o600) //nolint:gosec // the operator names the folder
		})
		if err != nil {
			return fmt.Errorf("write the token keys: %w", err)
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s is in %s, behind the others. Bring it to the other servers with 'patrol keys add --from', for a ring in a file.\n"+
			"When 'patrol keys status' shows the key on all servers, promote it.\n", naming(idsOf(lines)), path)
		return err
	})
	cmd.Flags().StringVar(&from, "from", "", "file whose keys are added, in place of a new one")
	return cmd
}

func idsOf(lines []string) []string {
	ids := make([]string, len(lines))
	for i, line := range lines {
		ids[i], _, _ = strings.Cut(line, ":")
	}
	return ids
}

// newKeys returns the entries that are to be added to a ring.
func newKeys(before models.Keyring, id, from string) ([]string, error) {
	if from == "" {
		if before.Status(id) == models.KeyKnown {
			return nil, fmt.Errorf("the ring has a key %s already", id)
		}
		var secret [32]byte
		if _, err := rand.Read(secret[:]); err != nil {
			return nil, err
		}
		line := id + ":" + base64.StdEncoding.EncodeToString(secret[:])
		_, err := models.ParseKeyring(line) // which checks the id
		return []string{line}, err
	}
	text, err := os.ReadFile(from) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("read the keys to add: %w", err)
	}
	others, err := models.ParseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the keys to add in %s: %w", from, err)
	}
	var lines []string
	for entry := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		entry = strings.TrimSpace(entry)
		other, _, _ := strings.Cut(entry, ":")
		switch {
		case entry == "":
		case before.Status(other) != models.KeyKnown:
			lines = append(lines, entry)
		case before.Check(other) != others.Check(other):
			return nil, fmt.Errorf("the ring has another key under the id %s", other)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("the ring has all keys of %s already", from)
	}
	return lines, nil
}
