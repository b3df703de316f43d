package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/cmd/patrol/config"
)

// healthBody bounds the answer of a health check.
const healthBody = 64 << 10

func (p *process) healthCommand() *cobra.Command {
	var o output
	var live bool
	var base string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "health",
		GroupID: groupServer,
		Short:   "Ask the server on this machine whether it is well",
		Long: `Ask the server with these settings, on this machine, whether it can decide and is not about to stop; for health checks of containers, which
have no curl. With --live, only whether it answers. The exit status is 0 if it is well, and 1 if it is not or does not answer.`,
		Example: `  patrol health
  patrol health --live
  patrol health --url https://patrol.example.com -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout must be longer than zero")
			}
			own := base == ""
			if own {
				cfg, err := p.settings(cmd)
				if err != nil {
					return err
				}
				if base, err = ownURL(cfg); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			health, err := askHealth(ctx, base, live, own)
			return tellHealth(o, health, err)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether it answers, whatever its database does")
	cmd.Flags().StringVar(&base, "url", "", "base URL of another server, instead of the one that listens on this machine")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long it may take to answer")
	addOutput(cmd, &o)
	return cmd
}

// ownURL returns where a server with these settings is reached from this machine.
func ownURL(cfg config.Config) (string, error) { return localURL(cfg, cfg.Listen) }

// localURL is ownURL for the address that the server listens on.
func localURL(cfg config.Config, listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", usagef("the settings leave the port to the system: name the address with --url")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if err == nil && ip.Is6() {
			host = "::1"
		}
	}
	scheme := "http"
	if cfg.TLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

// askHealth asks a server whether it can decide, or only whether it lives. own says that it
// is on this machine, where a certificate for its public name tells nothing.
func askHealth(ctx context.Context, base string, live, own bool) (api.Health, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return api.Health{}, usagef("%q is not a URL such as http://127.0.0.1:8080", base)
	}
	u = u.JoinPath("/healthz")
	if !live {
		u = u.JoinPath("..", "readyz")
		u.RawQuery = "exclude=revocations"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return api.Health{}, err
	}
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: own}, //nolint:gosec // nothing is sent, and it is this machine that answers
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return api.Health{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var health api.Health
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, healthBody)).Decode(&health); err != nil || health.Status == "" {
		return api.Health{}, fmt.Errorf("%s answers with status %d, and not as Patrol does", u, resp.StatusCode)
	}
	return health, nil
}

// tellHealth prints what was answered. The error says that the server is not well.
func tellHealth(o output, health api.Health, err error) error {
	if _, misuse := errors.AsType[usageError](err); misuse {
		return err
	}
	if err != nil {
		health.Status, health.Causes = "unreachable", map[string]string{"server": err.Error()}
	}
	if o.json() {
		err = o.printJSON(health)
	} else {
		err = o.printf("%s\n", healthLine(health))
	}
	if err == nil && health.Status != "ok" {
		err = errDenied
	}
	return err
}

// healthLine is a server's health in one line.
func healthLine(health api.Health) string {
	parts := []string{health.Status}
	for _, name := range slices.Sorted(maps.Keys(health.Checks)) {
		if result := health.Checks[name]; result != "ok" {
			parts = append(parts, name+": "+result)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(health.Causes)) {
		parts = append(parts, name+": "+health.Causes[name])
	}
	return printable(oneLine(strings.Join(parts, "; ")))
}
