package store

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"

	"patrol/models"
)

// Decisions is the decision log in a database: its own tables, with a schema
// version of their own, beside the records or in another database. It is safe for
// concurrent use.
//
// The texts that decisions were made on are kept once each, under their digests.
// Days are counted as decisions are added, so that what was used is still known
// when the decisions themselves are pruned.
type Decisions struct {
	store *Store
	pool  *sql.DB // that writes

	mu    sync.Mutex
	facts map[[16]byte]time.Time // when each was last known to be marked as used

	inserting inserter // of SQLite
}

// DecisionsURL returns where the decision log lies unless something else is said:
// on PostgreSQL in the same database; on SQLite in a file beside it, since SQLite
// has one writer at a time, and no write of a token is to wait for the log's.
func DecisionsURL(databaseURL string) string {
	path, ok := strings.CutPrefix(databaseURL, "sqlite://")
	if !ok {
		return databaseURL
	}
	return "sqlite://" + strings.TrimSuffix(path, ".db") + "-decisions.db"
}

// OpenDecisions connects to the decision log at c.URL. It makes an SQLite file
// that is not there, but no tables: see [Decisions.Migrate]. If it is durable,
// what was added is on the disk; otherwise a crash of the machine, not of this
// process, may lose the last of it.
func OpenDecisions(ctx context.Context, c Config, durable bool) (*Decisions, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	database, err := c.database()
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, c, database, decisionsSchema, !durable)
	if err != nil {
		return nil, err
	}
	pool, err := s.writer.DB()
	if err != nil {
		return nil, errors.Join(failure(ctx, "open", err), s.Close())
	}
	return &Decisions{store: s, pool: pool, facts: map[[16]byte]time.Time{}}, nil
}

// Close ends all connections.
func (d *Decisions) Close() error {
	d.inserting.forget()
	return d.store.Close()
}

// Migrate is [Store.Migrate] for the decision log.
func (d *Decisions) Migrate(ctx context.Context) (from, to int64, err error) {
	return d.store.Migrate(ctx)
}

// CheckSchema is [Store.CheckSchema] for the decision log.
func (d *Decisions) CheckSchema(ctx context.Context) error { return d.store.CheckSchema(ctx) }

// HashKey returns the key of masks that hash, the same for everybody on this log.
func (d *Decisions) HashKey(ctx context.Context) (key []byte, err error) {
	err = d.store.read(ctx, "decision_hash_key", func(db *gorm.DB) error {
		return db.Raw("SELECT hash_key FROM decision_log").Row().Scan(&key)
	})
	return key, err
}

// decisionColumns are the columns of a decision, in the order in which they are
// written and read.
var decisionColumns = []string{
	"id", "at", "took", "surface", "outcome", "reason", "revision", "token_id", "user_id",
	"domain", "entity_type", "entity", "operation", "scope_id", "request_id", "requested_by",
	"input_now", "token_fact", "user_fact", "domain_fact", "membership_fact", "detail",
}

// decisionDetail holds the fields that few decisions have.
type decisionDetail struct {
	Reasons []models.Reason   `json:"reasons,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Waived  []models.Waiver   `json:"waived,omitempty"`
	Method  string            `json:"method,omitempty"`
	Path    string            `json:"path,omitempty"`
	Context json.RawMessage   `json:"context,omitempty"`
	Client  json.RawMessage   `json:"client,omitempty"`
	HTTP    json.RawMessage   `json:"http,omitempty"`
	Erased  []string          `json:"erased,omitempty"`
	Masked  []string          `json:"masked,omitempty"`
}

// decisionRow appends the values of a decision's columns.
func decisionRow(values []any, l *models.LoggedDecision) ([]any, error) {
	var now any
	var facts [4]any
	detail := decisionDetail{Reasons: l.Reasons, Headers: l.Headers, Labels: l.Labels, Waived: l.Waived, Method: l.Method, Path: l.Path, Erased: l.Erased, Masked: l.Masked}
	if in := l.Input; in != nil {
		now = in.Now
		for i, fact := range [...]*models.Fact{in.Token, in.User, in.Domain, in.Membership} {
			if fact != nil {
				facts[i] = fact.Key[:]
			}
		}
		detail.Context, detail.Client, detail.HTTP = json.RawMessage(in.Context), json.RawMessage(in.Client), json.RawMessage(in.HTTP)
	}
	text := ""
	if l.Reasons != nil || l.Headers != nil || l.Labels != nil || l.Waived != nil || l.Method != "" || l.Path != "" || l.Erased != nil || l.Masked != nil || len(detail.Context)+len(detail.Client)+len(detail.HTTP) > 0 {
		encoded, err := json.Marshal(detail)
		if err != nil {
			return nil, fmt.Errorf("write the detail of a decision: %w", err)
		}
		text = string(encoded)
	}
	return append(
		values,
		l.ID, exact(l.At), int64(l.Took), l.Surface, string(l.Outcome()), string(l.FirstReason()), l.Revision, l.TokenID, l.UserID,
		note(l.Request.Domain), note(l.Request.EntityType), note(l.Request.Entity), note(l.Request.Operation), l.ScopeID, l.RequestID, l.RequestedBy,
		now, facts[0], facts[1], facts[2], facts[3], text,
	), nil
}

// Add writes decisions, all or none. Decisions that are there already, because an
// earlier call had more success than it knew, are no error.
func (d *Decisions) Add(ctx context.Context, batch []models.LoggedDecision) error {
	if len(batch) == 0 {
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.store.config.Timeout)
	defer cancel()
	err := d.add(ctx, batch)
	if isDuplicate(err) {
		err = d.addMissing(ctx, batch)
	}
	err = failure(ctx, "add_decisions", err)
	d.store.observe("add_decisions", begin, err)
	return err
}

func (d *Decisions) add(ctx context.Context, batch []models.LoggedDecision) error {
	if err := d.addFacts(ctx, batch); err != nil {
		return err
	}
	if d.store.database.driver == postgresDriver {
		return d.copyRows(ctx, batch)
	}
	return d.inserting.insert(ctx, d.pool, batch)
}

// addMissing adds those of a batch that are not there yet.
func (d *Decisions) addMissing(ctx context.Context, batch []models.LoggedDecision) error {
	there := map[string]bool{}
	for part := range slices.Chunk(batch, useBatch) {
		ids := make([]string, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		var found []string
		if err := d.store.writer.WithContext(ctx).Raw("SELECT id FROM decisions WHERE id IN ?", ids).Find(&found).Error; err != nil {
			return err
		}
		for _, id := range found {
			there[id] = true
		}
	}
	var rest []models.LoggedDecision
	for i := range batch {
		if id := batch[i].ID; !there[id] {
			there[id] = true // twice in one batch, too
			rest = append(rest, batch[i])
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return d.add(ctx, rest)
}

// copyRows is PostgreSQL's quickest way in. It is one transaction.
func (d *Decisions) copyRows(ctx context.Context, batch []models.LoggedDecision) error {
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	var values []any
	rows := pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
		var err error
		values, err = decisionRow(values[:0], &batch[i])
		return values, err
	})
	return conn.Raw(func(raw any) error {
		c := raw.(*stdlib.Conn).Conn() //nolint:forcetypeassert // the pool is of pgx
		if !d.store.pooled {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"decisions"}, decisionColumns, rows)
			return err
		}
		// The connection has no settings of its own.
		begin := "BEGIN; SET LOCAL idle_in_transaction_session_timeout = " + milliseconds(idleInBatch)
		if d.store.relaxed {
			begin += "; SET LOCAL synchronous_commit = off"
		}
		return pgx.BeginTxFunc(ctx, c, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"decisions"}, decisionColumns, rows)
			return err
		})
	})
}

// blob is bytes as one value: GORM makes a list of plain ones.
type blob []byte

// Value implements [database/sql/driver.Valuer].
func (b blob) Value() (sqldriver.Value, error) { return []byte(b), nil }

const (
	// factTouch is the interval at which a fact in use is marked as such.
	factTouch = time.Hour
	// maxFactsKnown bounds what is remembered of facts that are there.
	maxFactsKnown = 200_000
)

// addFacts writes the facts of a batch that are not known to be there, and marks
// those as used that were last marked a while ago.
func (d *Decisions) addFacts(ctx context.Context, batch []models.LoggedDecision) error {
	now := d.store.now()
	fresh := map[[16]byte]string{}
	d.mu.Lock()
	for i := range batch {
		in := batch[i].Input
		if in == nil {
			continue
		}
		for _, fact := range [...]*models.Fact{in.Token, in.User, in.Domain, in.Membership} {
			if fact == nil {
				continue
			}
			if marked, ok := d.facts[fact.Key]; !ok || now.Sub(marked) >= factTouch {
				fresh[fact.Key] = fact.JSON
			}
		}
	}
	d.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	keys := make([][16]byte, 0, len(fresh))
	for key := range fresh {
		keys = append(keys, key)
	}
	// In one order, so that processes that write at once do not wait for each
	// other in a circle.
	slices.SortFunc(keys, func(a, b [16]byte) int { return strings.Compare(string(a[:]), string(b[:])) })
	for part := range slices.Chunk(keys, useBatch) {
		args := make([]any, 0, 3*len(part))
		for _, key := range part {
			args = append(args, blob(key[:]), fresh[key], now)
		}
		query := "INSERT INTO decision_facts (key, body, used_at) VALUES " +
			strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", len(part)), ", ") +
			" ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at WHERE decision_facts.used_at < excluded.used_at"
		if err := d.store.writer.WithContext(ctx).Exec(query, args...).Error; err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.facts)+len(keys) > maxFactsKnown {
		clear(d.facts)
	}
	for _, key := range keys {
		d.facts[key] = now
	}
	return nil
}
