package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/bench"
)

// process is one of the servers.
type process struct {
	name  string
	cmd   *exec.Cmd
	conns []*grpc.ClientConn
}

// startSelf runs this program as a server, which writes its address to standard
// output, and connects to it.
func startSelf(ctx context.Context, name string, connections int, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.CommandContext(ctx, self, args...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s says no address: %w", name, err), p.stop())
	}
	for range connections {
		// The local subchannel pool keeps connections apart.
		conn, err := grpc.NewClient(strings.TrimSpace(addr), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, errors.Join(err, p.stop())
		}
		p.conns = append(p.conns, conn)
	}
	return p, nil
}

func (p *process) stop() error {
	for _, conn := range p.conns {
		_ = conn.Close() // nothing is in flight
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// ticksPerSecond is the unit of CPU times in /proc, the same on every Linux.
const ticksPerSecond = 100

// cpu returns the CPU time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is in parentheses and can hold anything.
	fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err1, err2)
}

// questions are the requests of an Envoy, one for each token.
func questions(w *bench.World) []*authv3.CheckRequest {
	out := make([]*authv3.CheckRequest, len(w.Holders))
	for i, h := range w.Holders {
		target := "/proxy/" + w.Domain.ID + "/v1/chat/completions"
		out[i] = &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "1", Method: "POST", Path: target, Host: "models.example.com", Scheme: "https", Protocol: "HTTP/1.1",
				Headers: map[string]string{
					":authority": "models.example.com", ":method": "POST", ":path": target, ":scheme": "https",
					"accept": "application/json", "authorization": "Bearer " + h.Token.Reveal(), "content-length": "96",
					"content-type": "application/json", "user-agent": "OpenAI/Python 1.0", "x-forwarded-for": "192.0.2.1",
					"x-forwarded-proto": "https", "x-request-id": "0f8fad5b-d9cb-469f-a165-70867728950e", "x-envoy-auth-partial-body": "false",
				},
				RawBody: []byte(`{"model":"` + bench.Request().Entity + `","messages":[{"role":"user","content":"Say hello to the world."}],"n":1}`),
			},
		}}}
	}
	return out
}

// fire asks count questions, inFlight at a time, over the connections in turn, and
// returns how long each took, sorted. All must be allowed.
func fire(ctx context.Context, conns []*grpc.ClientConn, requests []*authv3.CheckRequest, count, inFlight int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([]time.Duration, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range inFlight {
		client := authv3.NewAuthorizationClient(conns[worker%len(conns)])
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				begin := time.Now()
				res, err := client.Check(ctx, requests[i%len(requests)])
				if err != nil {
					cancel(err)
					return
				}
				if res.GetOkResponse() == nil {
					cancel(fmt.Errorf("a question was denied: %.300s", res.GetDeniedResponse().GetBody()))
					return
				}
				latencies[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	slices.Sort(latencies)
	return latencies, context.Cause(ctx)
}
