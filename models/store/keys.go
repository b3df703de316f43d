package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

// keysGone is the time after its last report at which a server counts no more. It reports
// several times in that time, and takes its report back when it ends.
const keysGone = time.Minute

// KeyState is the state of token keys in the database.
type KeyState struct {
	Promoted string            // the key for new tokens; "": the first of each ring
	Retired  []string          // keys that are out of use for good
	Checks   map[string]string // the check values of the other keys that are known, by id
}

// KeyState returns what the database says of token keys.
func (s *Store) KeyState(ctx context.Context) (state KeyState, err error) {
	err = s.read(ctx, "key_state", func(db *gorm.DB) error {
		state = KeyState{Checks: map[string]string{}}
		var rows []struct {
			PromotedKey string
			ID          string
			CheckValue  string
			RetiredAt   *time.Time
		}
		err := db.Raw(`SELECT i.promoted_key, COALESCE(k.id, '') AS id, COALESCE(k.check_value, '') AS check_value, k.retired_at
			FROM installation i LEFT JOIN token_keys k ON 1 = 1 ORDER BY k.id`).Find(&rows).Error
		for _, r := range rows {
			state.Promoted = r.PromotedKey
			switch {
			case r.ID == "":
			case r.RetiredAt != nil:
				state.Retired = append(state.Retired, r.ID)
			default:
				state.Checks[r.ID] = r.CheckValue
			}
		}
		return err
	})
	return state, err
}

// ServerKey is one key in a server's ring, without the key.
type ServerKey struct {
	ID      string
	Check   string
	Current bool
}

// ServerKeys is the ring of a server.
type ServerKeys struct {
	Server string // drawn at each start
	Name   string // for people
	Keys   []ServerKey
	SeenAt time.Time // by the clock of the database
}

type serverKeyRow struct {
	Server     string `gorm:"primaryKey"`
	Name       string
	KeyID      string `gorm:"primaryKey"`
	CheckValue string
	Current    bool
	SeenAt     time.Time
}

func (serverKeyRow) TableName() string { return "server_keys" }

// ReportKeys notes what a server has in its ring. The first to report a key says
// which secret its id means; as long as no token was made of it, others may say so
// again.
func (s *Store) ReportKeys(ctx context.Context, r ServerKeys) error {
	return s.write(ctx, "report_keys", models.Actor{}, func(t *tx) error {
		now, err := t.databaseTime()
		if err != nil {
			return err
		}
		ids := make([]string, len(r.Keys))
		for i, k := range r.Keys {
			ids[i] = k.ID
			row := serverKeyRow{Server: r.Server, Name: note(r.Name), KeyID: k.ID, CheckValue: k.Check, Current: k.Current, SeenAt: now}
			if err := t.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
				return err
			}
			if err := t.db.Exec(`INSERT INTO token_keys (id, check_value, added_at) VALUES (?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET check_value = excluded.check_value
				WHERE token_keys.check_value <> excluded.check_value AND token_keys.retired_at IS NULL
					AND NOT EXISTS (SELECT 1 FROM pats WHERE key_id = excluded.id)`, k.ID, k.Check, now).Error; err != nil {
				return err
			}
		}
		return t.db.Exec("DELETE FROM server_keys WHERE (server = ? AND key_id NOT IN ?) OR seen_at < ?", r.Server, ids, now.Add(-time.Hour)).Error
	})
}

// databaseTime is the one clock that all servers share: PostgreSQL's, or on SQLite
// that of the machine.
func (t *tx) databaseTime() (time.Time, error) {
	if t.database.driver == sqliteDriver {
		return t.now, nil
	}
	var now time.Time
	err := t.db.Raw("SELECT clock_timestamp()").Find(&now).Error
	return exact(now), err
}

// ForgetKeys takes a server's report back.
func (s *Store) ForgetKeys(ctx context.Context, server string) error {
	return s.run(ctx, "forget_keys", s.writer, func(db *gorm.DB) error {
		return db.Exec("DELETE FROM server_keys WHERE server = ?", server).Error
	})
}

// KeyServers returns the rings of the servers that run.
func (s *Store) KeyServers(ctx context.Context) (servers []ServerKeys, err error) {
	err = s.read(ctx, "key_servers", func(db *gorm.DB) (err error) {
		t := &tx{Store: s, db: db, now: s.now()}
		servers, err = t.keyServers()
		return err
	})
	return servers, err
}

func (t *tx) keyServers() ([]ServerKeys, error) {
	now, err := t.databaseTime()
	if err != nil {
		return nil, err
	}
	var rows []serverKeyRow
	if err := t.db.Where("seen_at >= ?", now.Add(-keysGone)).Order("name, server, current DESC, key_id").Find(&rows).Error; err != nil {
		return nil, err
	}
	var servers []ServerKeys
	for _, r := range rows {
		if n := len(servers); n == 0 || servers[n-1].Server != r.Server {
			servers = append(servers, ServerKeys{Server: r.Server, Name: r.Name, SeenAt: r.SeenAt.UTC()})
		}
		last := &servers[len(servers)-1]
		last.Keys = append(last.Keys, ServerKey{ID: r.KeyID, Check: r.CheckValue, Current: r.Current})
	}
	return servers, nil
}

// KeyUse counts the tokens of a key. Live ones are neither revoked nor
// past the expiry that they were made with.
type KeyUse struct {
	KeyID string
	Live  int
	Dead  int
}

const keyUseQuery = `SELECT key_id, SUM(CASE WHEN revoked_at IS NULL AND expires_at > ? THEN 1 ELSE 0 END) AS live,
	SUM(CASE WHEN revoked_at IS NULL AND expires_at > ? THEN 0 ELSE 1 END) AS dead FROM pats`

// KeyUses returns how many tokens there are of each key.
func (s *Store) KeyUses(ctx context.Context) (uses []KeyUse, err error) {
	now := s.now()
	err = s.list(ctx, "key_uses", func(db *gorm.DB) error {
		return db.Raw(keyUseQuery+" GROUP BY key_id ORDER BY key_id", now, now).Find(&uses).Error
	})
	return uses, err
}

// PromoteKey has all servers make new tokens of a key. It is CodeConflict while a
// server that runs does not have the key, or has another one under its id.
func (s *Store) PromoteKey(ctx context.Context, by models.Actor, id string) error {
	return s.write(ctx, "promote_key", by, func(t *tx) error {
		if err := t.knownKey(id); err != nil {
			return err
		}
		servers, err := t.keyServers()
		if err != nil {
			return err
		}
		if len(servers) == 0 {
			return models.NewError(models.CodeConflict, "no server runs that could say that it has the key: start the servers first")
		}
		var check string
		if err := t.db.Raw("SELECT check_value FROM token_keys WHERE id = ?", id).Find(&check).Error; err != nil {
			return err
		}
		var without, other []string
		for _, server := range servers {
			i := slices.IndexFunc(server.Keys, func(k ServerKey) bool { return k.ID == id })
			switch {
			case i < 0:
				without = append(without, server.Name)
			case server.Keys[i].Check != check:
				other = append(other, server.Name)
			}
		}
		if len(without) > 0 {
			return models.NewError(models.CodeConflict, fmt.Sprintf(
				"the key %s is not in the ring of %s: tokens of it could not be verified there", id, strings.Join(without, ", ")))
		}
		if len(other) > 0 {
			return models.NewError(models.CodeConflict, fmt.Sprintf("%s has another key under the id %s than the rest", strings.Join(other, ", "), id))
		}
		result := t.db.Exec("UPDATE installation SET promoted_key = ? WHERE promoted_key <> ?", id, id)
		if result.Error != nil || result.RowsAffected == 0 {
			return result.Error
		}
		return t.audit("key.promote", "key:"+id, nil)
	})
}

func (t *tx) knownKey(id string) error {
	var rows []struct{ RetiredAt *time.Time }
	if !storable(id) {
		return notFound("key")
	}
	if err := t.db.Raw("SELECT retired_at FROM token_keys WHERE id = ?", id).Find(&rows).Error; err != nil {
		return err
	}
	switch {
	case len(rows) == 0:
		return models.NewError(models.CodeNotFound, fmt.Sprintf("no server has had a key %s in its ring", id))
	case rows[0].RetiredAt != nil:
		return models.NewError(models.CodeConflict, fmt.Sprintf("the key %s is retired", id))
	}
	return nil
}

// RetireKey takes a key out of use for good: servers no longer need it in their
// rings, and no token can be made of it. It is CodeConflict while a live token is
// of it, or a server makes new tokens of it.
func (s *Store) RetireKey(ctx context.Context, by models.Actor, id string) error {
	return s.write(ctx, "retire_key", by, func(t *tx) error {
		if t.database.driver == postgresDriver { // no token of it is on its way
			if err := t.db.Exec("LOCK TABLE pats IN SHARE ROW EXCLUSIVE MODE").Error; err != nil {
				return err
			}
		}
		if err := t.knownKey(id); err != nil {
			return err
		}
		var promoted string
		if err := t.db.Raw("SELECT promoted_key FROM installation").Find(&promoted).Error; err != nil {
			return err
		}
		servers, err := t.keyServers()
		if err != nil {
			return err
		}
		var using []string
		for _, server := range servers {
			if slices.ContainsFunc(server.Keys, func(k ServerKey) bool { return k.ID == id && k.Current }) {
				using = append(using, server.Name)
			}
		}
		switch {
		case promoted == id:
			return models.NewError(models.CodeConflict, fmt.Sprintf("new tokens are made of the key %s: promote another one first", id))
		case len(using) > 0:
			return models.NewError(models.CodeConflict, fmt.Sprintf("%s makes new tokens of the key %s: promote another one first", strings.Join(using, ", "), id))
		case promoted == "" && len(servers) == 0:
			return models.NewError(models.CodeConflict, "no server runs that could say which key it makes new tokens of: start one, or promote another key first")
		}
		var use KeyUse
		if err := t.db.Raw(keyUseQuery+" WHERE key_id = ? GROUP BY key_id", t.now, t.now, id).Find(&use).Error; err != nil {
			return err
		}
		if use.Live > 0 {
			return models.NewError(models.CodeConflict, fmt.Sprintf("%d live tokens are of the key %s: have them rotated or revoked first", use.Live, id))
		}
		if err := t.db.Exec("UPDATE token_keys SET retired_at = ? WHERE id = ?", t.now, id).Error; err != nil {
			return err
		}
		return t.audit("key.retire", "key:"+id, map[string]string{"dead_tokens": fmt.Sprint(use.Dead)})
	})
}

// ResetKey forgets which secret the id of a key means, so that the next server to
// report it says so: after a server was started with a wrong secret. It is
// CodeConflict while a server that runs has the key.
func (s *Store) ResetKey(ctx context.Context, by models.Actor, id string) error {
	return s.write(ctx, "reset_key", by, func(t *tx) error {
		if err := t.knownKey(id); err != nil {
			return err
		}
		servers, err := t.keyServers()
		if err != nil {
			return err
		}
		for _, server := range servers {
			if slices.ContainsFunc(server.Keys, func(k ServerKey) bool { return k.ID == id }) {
				return models.NewError(models.CodeConflict, fmt.Sprintf("%s runs with the key %s: stop it first", server.Name, id))
			}
		}
		if err := t.db.Exec("DELETE FROM token_keys WHERE id = ?", id).Error; err != nil {
			return err
		}
		return t.audit("key.reset", "key:"+id, nil)
	})
}
