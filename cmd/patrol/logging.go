package main

import (
	"log/slog"
	"time"

	"patrol/cmd/patrol/config"
)

// logger returns the log that the settings ask for, on standard error.
func (p *process) logger(cfg config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // the settings were validated: they name a level
	}
	if cfg.Format == "text" || cfg.Format == "auto" && terminal(p.stderr) != nil {
		return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: shortTime}))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, &slog.HandlerOptions{Level: level}))
}

// shortTime shows people the time of day; who reads along knows the date.
func shortTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		a.Value = slog.StringValue(a.Value.Time().Format(time.TimeOnly))
	}
	return a
}
