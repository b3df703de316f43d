package store

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm/logger"
)

// queryLog is GORM's logger. It tells slow statements, and with level debug all
// of them, by their text with placeholders: values, which may be hashes or
// addresses, never get here. Errors are returned, not logged.
type queryLog struct {
	to   *slog.Logger
	slow time.Duration
}

var _ logger.Interface = queryLog{}

// ParamsFilter keeps the values of a statement out of what is logged.
func (queryLog) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}

// GORM's Scan, unlike its Find, describes statements by a logger of its own,
// which writes their values out on every call. This package uses Find; should
// anyone use Scan, it shall not tell values either.
func init() { //nolint:gochecknoinits // a variable of another package, for which it offers no other way
	logger.RecorderParamsFilter = queryLog{}.ParamsFilter
}

// LogMode returns the logger itself: the level is that of the slog.Logger.
func (l queryLog) LogMode(logger.LogLevel) logger.Interface { return l }

// Info logs GORM's remarks without their arguments, which may be values.
func (l queryLog) Info(ctx context.Context, message string, _ ...any) {
	l.to.DebugContext(ctx, "gorm", "message", message)
}

// Warn logs GORM's warnings without their arguments.
func (l queryLog) Warn(ctx context.Context, message string, _ ...any) {
	l.to.WarnContext(ctx, "gorm", "message", message)
}

// Error logs what GORM calls an error, which it also returns, at debug.
func (l queryLog) Error(ctx context.Context, message string, _ ...any) {
	l.to.DebugContext(ctx, "gorm", "message", message)
}

// Trace hears of every statement.
func (l queryLog) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), _ error) {
	took := time.Since(begin)
	slow := took >= l.slow
	level := slog.LevelDebug
	if slow {
		level = slog.LevelWarn
	}
	if !l.to.Enabled(ctx, level) {
		return
	}
	text, rows := statement()
	if slow {
		l.to.WarnContext(ctx, "slow query", "sql", text, "rows", rows, "took", took)
		return
	}
	l.to.DebugContext(ctx, "query", "sql", text, "rows", rows, "took", took)
}
