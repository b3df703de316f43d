package testenv

import (
	"bufio"
	"context"
	_ "embed" // the provider's script
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// oidcProviderVersion is the version of the npm package oidc-provider, which is
// certified by the OpenID Foundation.
const oidcProviderVersion = "9.13.3"

//go:embed oidc/provider.mjs
var oidcScript []byte

var oidcModule = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "patrol-test", "oidc-provider-"+oidcProviderVersion)
	file := filepath.Join(dir, "node_modules", "oidc-provider", "lib", "index.js")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	install := exec.Command("npm", "install", "--prefix", dir, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "oidc-provider@"+oidcProviderVersion)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install oidc-provider: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return file, nil
})

// OIDCProvider is a running OpenID provider with one client: "patrol", with
// [OIDCProvider.ClientSecret]. People sign in on its page with their id; any
// password is right. The page takes `prompt`, `login` and `password`.
type OIDCProvider struct {
	Issuer       string
	ClientSecret string
	t            testing.TB
}

// OIDC starts a provider that sends people back to redirect, and ends it with the
// test. It runs under Node.js and comes from npm, installed once into the user's
// cache; without them the test is skipped as [Missing] does.
func OIDC(t testing.TB, redirect string) *OIDCProvider {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		Missing(t, "oidc-provider", "no node in PATH")
	}
	module, err := oidcModule()
	if err != nil {
		Missing(t, "oidc-provider", err.Error())
	}
	script := filepath.Join(t.TempDir(), "provider.mjs")
	if err := os.WriteFile(script, oidcScript, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), node, script, module, redirect)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()      // at which it ends
		_ = cmd.Process.Kill() // should it not
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the OpenID provider said: %s", complaints.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the OpenID provider did not start: %v: %s", err, complaints.String())
	}
	return &OIDCProvider{Issuer: strings.TrimSpace(line), ClientSecret: "the client's secret of the test", t: t}
}

// Person makes somebody known to the provider, with these claims beside `sub`.
func (p *OIDCProvider) Person(id string, claims map[string]any) {
	p.t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	p.put("/test/people/"+url.PathEscape(id), string(body))
}

// At sets the provider's clock, which stands still.
func (p *OIDCProvider) At(now time.Time) {
	p.t.Helper()
	p.put("/test/clock", strconv.FormatInt(now.UnixMilli(), 10))
}

func (p *OIDCProvider) put(path, body string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut, p.Issuer+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		p.t.Fatalf("the OpenID provider answered %d", resp.StatusCode)
	}
}
