package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"patrol/bench"
)

// cast are the servers that are compared.
type cast struct {
	options
	world *bench.World
	dir   string
	url   string // of the database

	processes []*process
	servers   []server
}

func (c *cast) stop() (err error) {
	for _, p := range c.processes {
		err = errors.Join(err, p.stop())
	}
	return err
}

// start runs a program that says where it listens, or is told.
func (c *cast) start(ctx context.Context, name string, cmd *exec.Cmd, addr string, find func(string) string) (*process, error) {
	p, err := start(ctx, name, cmd, addr, find)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

// self runs this program as one of its servers.
func (c *cast) self(ctx context.Context, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return c.start(ctx, args[0], exec.CommandContext(ctx, program, args...), "", strings.TrimSpace)
}

func (c *cast) add(p *process, as string, payloads []payload, want string) {
	c.servers = append(c.servers, server{p, as, payloads, []byte(want)})
}

// startAll starts the servers.
func (c *cast) startAll(ctx context.Context) error {
	upstream, err := c.self(ctx, "-upstream")
	if err != nil {
		return err
	}
	patrol, err := c.patrol(ctx, patrolLogging, "PATROL_UPSTREAM=http://"+upstream.addr)
	if err != nil {
		return err
	}
	silent, err := c.patrol(ctx, patrolSilent, "PATROL_DECISION_LOG_DATABASE=false")
	if err != nil {
		return err
	}
	size, err := answerSize(ctx, patrol.addr, c.world.Holders[0])
	if err != nil {
		return err
	}
	constant, err := c.self(ctx, "-constant", fmt.Sprint(size))
	if err != nil {
		return err
	}
	for _, of := range []struct {
		p  *process
		as string
	}{{patrol, patrolLogging}, {silent, patrolSilent}, {constant, constantName}} {
		var requests []payload
		for _, h := range c.world.Holders {
			requests = append(requests, post(of.p.addr, "/authorize", authorizeBody(h)))
		}
		c.add(of.p, of.as, requests, `"allowed":true`)
	}
	if err := c.startOPA(ctx); err != nil {
		return err
	}
	reverse, err := c.self(ctx, "-reverse", "http://"+upstream.addr)
	if err != nil {
		return err
	}
	c.proxied(patrol, gatewayGet, gatewayPost)
	c.proxied(reverse, reverseGet, reversePost)
	return nil
}

// patrol starts the program and waits until the compiled plan of its policy answers.
func (c *cast) patrol(ctx context.Context, name string, env ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, c.options.patrol, "serve")
	data := filepath.Join(c.dir, strings.ReplaceAll(name, " ", "-"))
	cmd.Env = append(os.Environ(), "PATROL_LISTEN=127.0.0.1:0", "PATROL_GRPC_LISTEN=127.0.0.1:0", "PATROL_DATA_DIR="+data,
		"PATROL_DATABASE_URL="+c.url, "PATROL_TOKEN_KEYS="+c.world.KeysText, "PATROL_DECISION_LOG_DATABASE_URL=sqlite://"+data+".log.db")
	cmd.Env = append(cmd.Env, env...)
	p, err := c.start(ctx, name, cmd, "", listening)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		planned, err := hasMetric(ctx, p.addr, "patrol_policy_planned 1")
		if err != nil || planned {
			return p, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: the plan of its policy does not answer", name)
		}
	}
}

func hasMetric(ctx context.Context, addr, line string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	return strings.Contains(string(text), line), err
}

// startOPA starts OPA's REST server, with a minimal policy and with the same one.
func (c *cast) startOPA(ctx context.Context) error {
	minimal := filepath.Join(c.dir, "minimal")
	if err := writeMinimal(minimal, c.world); err != nil {
		return err
	}
	for _, of := range []struct {
		as, bundle, path, want string
		input                  func(bench.Holder) any
	}{
		{opaMinimal, minimal, "/v1/data/minimal/allow", `"result":true`, func(h bench.Holder) any {
			req := bench.Request()
			return map[string]any{
				"token": h.PAT.ID, "domain": req.Domain, "entity_type": req.EntityType, "entity": req.Entity, "operation": req.Operation, "now": time.Now().Unix(),
			}
		}},
		{opaSame, c.policies, "/v1/data/patrol/authz/decision", `"allow":true`, func(h bench.Holder) any { return input(c.world, h) }},
	} {
		addr, err := freeAddr(ctx)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, c.opa, "run", "--server", "--log-level", "error", "--disable-telemetry", "--addr", addr, "--bundle", of.bundle)
		p, err := c.start(ctx, of.as, cmd, addr, nil)
		if err != nil {
			return err
		}
		var requests []payload
		for _, h := range c.world.Holders {
			body, err := json.Marshal(map[string]any{"input": of.input(h)})
			if err != nil {
				return err
			}
			requests = append(requests, post(addr, of.path, body))
		}
		c.add(p, of.as, requests, of.want)
	}
	return nil
}

// proxied adds a proxy, which is sent a GET, and a POST of 2 KiB.
func (c *cast) proxied(p *process, get, post string) {
	text := strings.Repeat("x", 1900)
	body := fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":%q}]}`, bench.Request().Entity, text)
	var gets, posts []payload
	for _, h := range c.world.Holders {
		path := "/proxy/" + c.world.Domain.ID + "/v1/"
		gets = append(gets, withToken("GET", p.addr, path+"models", nil, h))
		posts = append(posts, withToken("POST", p.addr, path+"chat/completions", body, h))
	}
	c.add(p, get, gets, `"object":"list"`)
	c.add(p, post, posts, `"object":"list"`)
}

func withToken(method, host, path string, body []byte, h bench.Holder) payload {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", method, path, host, h.Token.Reveal())
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
