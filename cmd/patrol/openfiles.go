package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"patrol/cmd/patrol/config"
	"patrol/internal/private"
)

// privateFiles are the files that nobody else may write, with the ring that Patrol
// made for itself.
func privateFiles(cfg config.Config) []string {
	return append(cfg.PrivateFiles(), cfg.SettingsFile(), filepath.Join(cfg.DataDir, keyFile))
}

// checkFiles refuses files that every user of this machine can write, unless the
// settings accept them, and returns what is to be warned of.
func checkFiles(cfg config.Config, paths ...string) (warnings []string, err error) {
	var refused []string
	for _, path := range paths {
		wrong, grave := private.Look(path)
		switch {
		case wrong == "", !grave && path == cfg.SettingsFile(): // which need not hold a secret
		case grave && !cfg.OpenFiles:
			refused = append(refused, wrong)
		default:
			warnings = append(warnings, wrong)
		}
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%s; or set accept_open_files (PATROL_ACCEPT_OPEN_FILES)", strings.Join(refused, "; "))
	}
	return warnings, nil
}

// warnOfFiles is checkFiles for a server that starts.
func warnOfFiles(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	warnings, err := checkFiles(cfg, privateFiles(cfg)...)
	for _, text := range warnings {
		log.WarnContext(ctx, "a file that others should not read or write is open to them", "file", text)
	}
	return err
}
