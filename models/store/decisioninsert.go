package store

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"patrol/models"
)

// inserter writes decisions to SQLite. A busy server writes thousands a second, so it
// keeps its statements, and gives them to the driver itself.
type inserter struct {
	mu     sync.Mutex
	conn   sqldriver.Conn         // that the statements belong to
	sized  map[int]sqldriver.Stmt // by how many rows they insert
	args   []sqldriver.NamedValue
	values []any
}

// rowsPerInsert is the number of decisions in one statement: enough to spread its cost, and
// far below the limit of 32,766 parameters. Statements of fewer rows, in few sizes, write the
// rest of a batch.
const rowsPerInsert = 64

// insert writes decisions in one transaction.
func (n *inserter) insert(ctx context.Context, pool *sql.DB, batch []models.LoggedDecision) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	return conn.Raw(func(raw any) error {
		c, ok := raw.(interface {
			sqldriver.Conn
			sqldriver.ExecerContext
			sqldriver.ConnPrepareContext
		})
		if !ok {
			return errors.New("the driver of SQLite lacks what is needed to insert decisions")
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.conn != raw { // it was opened again
			n.conn, n.sized = c, map[int]sqldriver.Stmt{}
		}
		if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE", nil); err != nil {
			return err
		}
		err := n.insertAll(ctx, c, batch)
		if err == nil {
			_, err = c.ExecContext(ctx, "COMMIT", nil)
		}
		if err != nil {
			// The earlier failure is the error. A connection that cannot be rolled back is
			// not used again.
			if _, rerr := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK", nil); rerr != nil && !strings.Contains(rerr.Error(), "no transaction is active") {
				n.conn, n.sized = nil, nil
				return errors.Join(sqldriver.ErrBadConn, err, rerr)
			}
		}
		return err
	})
}

func (n *inserter) insertAll(ctx context.Context, c sqldriver.ConnPrepareContext, batch []models.LoggedDecision) error {
	for len(batch) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows := rowsPerInsert
		for rows > len(batch) {
			rows /= 4
		}
		if err := n.insertSome(ctx, c, batch[:rows]); err != nil {
			return err
		}
		batch = batch[rows:]
		runtime.Gosched() // requests go first
	}
	return nil
}

func (n *inserter) insertSome(ctx context.Context, c sqldriver.ConnPrepareContext, rows []models.LoggedDecision) error {
	statement := n.sized[len(rows)]
	if statement == nil {
		var err error
		if statement, err = c.PrepareContext(ctx, insertDecisions(len(rows))); err != nil {
			return err
		}
		n.sized[len(rows)] = statement
	}
	to, ok := statement.(sqldriver.StmtExecContext)
	if !ok {
		return errors.New("the driver of SQLite lacks what is needed to insert decisions")
	}
	n.args = slices.Grow(n.args[:0], len(rows)*len(decisionColumns))
	defer func() { clear(n.args); clear(n.values) }()
	for i := range rows {
		var err error
		if n.values, err = decisionRow(n.values[:0], &rows[i]); err != nil {
			return err
		}
		for _, value := range n.values {
			if !sqldriver.IsValue(value) {
				return fmt.Errorf("write a decision: %T is no value of a database", value)
			}
			n.args = append(n.args, sqldriver.NamedValue{Ordinal: len(n.args) + 1, Value: value})
		}
	}
	// The driver starts a goroutine for each statement whose context can end; these are
	// short.
	_, err := to.ExecContext(context.WithoutCancel(ctx), n.args)
	return err
}

// forget lets go of the statements, before the connection is closed.
func (n *inserter) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, statement := range n.sized {
		_ = statement.Close() // nothing was written that counts
	}
	n.conn, n.sized = nil, nil
}

// insertDecisions passes over decisions that are there. A statement that could fail
// halfway would have SQLite write a journal of its own for it.
func insertDecisions(rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", len(decisionColumns)), ",") + ")"
	return "INSERT OR IGNORE INTO decisions (" + strings.Join(decisionColumns, ",") + ") VALUES " +
		strings.TrimSuffix(strings.Repeat(row+",", rows), ",")
}
