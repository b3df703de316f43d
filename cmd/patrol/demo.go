package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"patrol/api"
	"patrol/cmd/patrol/config"
	"patrol/cmd/patrol/standin"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/identity"
)

// The users, domains and tokens of the demo.
const (
	demoAdmin    = "admin@demo.example"
	demoUser     = "ada@demo.example"
	demoDomain   = "acme"
	demoToken    = "demo"
	demoRevoked  = "demo-revoked"
	demoLifetime = "1d"
)

// demo holds the objects that the demo made, secrets included. It goes to the screen and nowhere
// else.
type demo struct {
	program, url, upstream, dir  string
	throwaway                    bool
	adminPassword, userPassword  string
	token, revoked               models.Token
	allowedModel, forbiddenModel string
}

// serveDemo runs a server with data made for trying it out.
func (p *process) serveDemo(ctx context.Context, cfg config.Config, dirGiven bool) (err error) {
	d := demo{program: p.name, throwaway: !dirGiven && cfg.DataDir == config.Default().DataDir}
	if cfg.Database.URL != config.SQLiteIn(cfg.DataDir) {
		return usagef("--demo keeps its database in the data folder: leave the database URL out")
	}
	if d.throwaway {
		if cfg.DataDir, err = os.MkdirTemp("", "patrol-demo-"); err != nil { // made with mode 0700
			return fmt.Errorf("make a throwaway folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.DataDir)) }()
		cfg.Database.URL = config.SQLiteIn(cfg.DataDir)
	}
	d.dir = cfg.DataDir
	if len(cfg.AllUpstreams()) == 0 {
		address, stop, err := startStandIn(ctx)
		if err != nil {
			return err
		}
		defer stop()
		cfg.Upstream = config.URL(address)
		d.upstream = address + " (a stand-in, not a model server)"
	} else {
		d.upstream = "as configured"
	}
	return p.serve(ctx, cfg, occasions{
		opened: func(ctx context.Context, n *node) error {
			if err := d.fill(ctx, n); err != nil {
				return fmt.Errorf("make the demo's data: %w", err)
			}
			return nil
		},
		listening: func(_ context.Context, n *node) error {
			d.url = n.server.BaseURL()
			return d.print(p.stdout, p.colours(p.stdout))
		},
	})
}

// startStandIn serves the stand-in upstream on a free port of this machine.
func startStandIn(ctx context.Context) (address string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start the stand-in upstream: %w", err)
	}
	upstream := &http.Server{Handler: standin.Handler(150 * time.Millisecond), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = upstream.Serve(l) }() // it ends with stop
	return "http://" + l.Addr().String(), func() { _ = upstream.Close() }, nil
}

// fill makes accounts, domain and tokens. In a folder that has seen a demo before
// it gives the accounts new passwords and makes the tokens anew.
func (d *demo) fill(ctx context.Context, n *node) (err error) {
	by := models.Principal{Actor: models.Actor{Kind: models.ActorSystem, UserAgent: "patrol serve --demo"}}
	if err := onlyDemo(ctx, n.store); err != nil {
		return err
	}
	if d.adminPassword, _, err = demoAccount(ctx, n, by, api.NewUser{Email: demoAdmin, Name: "Demo Admin", Admin: true}); err != nil {
		return err
	}
	var ada models.User
	if d.userPassword, ada, err = demoAccount(ctx, n, by, api.NewUser{Email: demoUser, Name: "Ada"}); err != nil {
		return err
	}
	if _, err := n.server.Manage().CreateDomain(ctx, by, api.NewDomain{ID: demoDomain, Name: "Acme"}); err != nil && models.CodeOf(err) != models.CodeTaken {
		return err
	}
	if _, _, err := n.server.Manage().SetMember(ctx, by, demoDomain, ada.ID, api.SetMember{Role: "member"}); err != nil {
		return err
	}

	by.User = ada
	if _, err := n.store.RevokeAll(ctx, by.Actor, ada.ID); err != nil {
		return err
	}
	known := standin.Models()
	d.allowedModel, d.forbiddenModel = known[0], known[1]
	scopes := []api.NewScope{
		{Domain: demoDomain, EntityType: "models", Entity: models.Any, Operation: "read"},
		{Domain: demoDomain, EntityType: "models", Entity: d.allowedModel, Operation: "execute"},
	}
	for _, t := range []struct {
		name string
		to   *models.Token
	}{{demoToken, &d.token}, {demoRevoked, &d.revoked}} {
		if _, *t.to, err = n.server.Manage().CreatePAT(ctx, by, api.NewPAT{Name: t.name, ExpiresIn: demoLifetime, Scopes: scopes}); err != nil {
			return err
		}
	}
	_, err = n.server.Manage().RevokePAT(ctx, by, d.revoked.ID)
	return err
}

// onlyDemo refuses a database with real accounts: the demo sets passwords.
func onlyDemo(ctx context.Context, s *store.Store) error {
	users, err := all(func(page store.Page) ([]models.User, string, error) { return s.Users(ctx, store.UserFilter{}, page) })
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Email != demoAdmin && u.Email != demoUser {
			return errors.New("this database has accounts that are not the demo's: leave --demo or the data folder out")
		}
	}
	return nil
}

// demoAccount makes an account with a new password, or gives the one that is there
// a new password.
func demoAccount(ctx context.Context, n *node, by models.Principal, in api.NewUser) (password string, u models.User, err error) {
	in.Password = newPassphrase()
	u, err = n.server.Manage().CreateUser(ctx, by, in)
	if models.CodeOf(err) != models.CodeTaken {
		return in.Password, u, err
	}
	there, err := n.store.UserByEmail(ctx, in.Email)
	if err != nil || there == nil {
		return "", u, err
	}
	hash, err := identity.HashPassword(in.Password)
	if err != nil {
		return "", u, err
	}
	enabled := false
	u, err = n.store.UpdateUser(ctx, by.Actor, there.ID, store.UserPatch{PasswordHash: &hash, Disabled: &enabled})
	return in.Password, u, err
}

// newPassphrase returns 80 random bits as four groups of letters and digits.
func newPassphrase() string {
	text := strings.ToLower(rand.Text())
	return text[0:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
}

// print lays out what to try. In every line to paste there is all that it needs.
func (d *demo) print(w io.Writer, colours bool) error {
	bold, dim, plain := "", "", ""
	if colours {
		bold, dim, plain = "\x1b[1m", "\x1b[2m", "\x1b[0m"
	}
	proxy := d.url + "/proxy/" + demoDomain
	ask := func(token models.Token, rest string) string {
		return fmt.Sprintf(`curl -sS -i %s -H "Authorization: Bearer %s"`, rest, token.Reveal())
	}
	chat := func(model string, extra string) string {
		return fmt.Sprintf(`%s/v1/chat/completions -H "Content-Type: application/json" -d '{"model":"%s"%s,"messages":[{"role":"user","content":"Hello"}]}'`, proxy, model, extra)
	}
	var b strings.Builder
	title := func(text string) { fmt.Fprintf(&b, "\n%s%s%s\n", bold, text, plain) }
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	note := func(text string) { fmt.Fprintf(&b, "\n  %s# %s%s\n", dim, text, plain) }

	title("Patrol, trying it out")
	line("server    %s", d.url)
	line("upstream  %s", d.upstream)
	if d.throwaway {
		line("data      %s, deleted at the end", d.dir)
	} else {
		line("data      %s", d.dir)
	}
	title("Accounts")
	line("sign in   %s/login", d.url)
	line("admin     %s   %s", demoAdmin, d.adminPassword)
	line("user      %s     %s   (member of %s)", demoUser, d.userPassword, demoDomain)
	title("Try these in another terminal")
	note("200: the token may read the models of " + demoDomain)
	line("%s", ask(d.token, proxy+"/v1/models"))
	note("200: and may run " + d.allowedModel + ", here as a stream")
	line("%s", ask(d.token, "-N "+chat(d.allowedModel, `,"stream":true`)))
	note("403: but not " + d.forbiddenModel + ", for no scope of it says so")
	line("%s", ask(d.token, chat(d.forbiddenModel, "")))
	note("401: this token was revoked")
	line("%s", ask(d.revoked, proxy+"/v1/models"))
	title("Make a token of your own")
	line("%s login %s --server %s", d.program, demoUser, d.url)
	line("%s pat create --name mine --expires-in 1h --scope %s:models:*:read", d.program, demoDomain)
	b.WriteString("\nCtrl-C ends it.\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}
