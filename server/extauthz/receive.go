package extauthz

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"patrol/server/deadline"
)

// checkMethod is the full name of the one method.
const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

// checkService is the service as grpc-go serves it: its method is a stream, because
// a method of the ordinary kind gets a message only when it is there in full, however
// large, and an error of receiving it could not be answered with a denial.
var checkService = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: (*authv3.AuthorizationServer)(nil),
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Streams: []grpc.StreamDesc{{
		StreamName: "Check", ClientStreams: true, ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			return srv.(*Server).serveCheck(stream) //nolint:forcetypeassert // it is what is registered
		},
	}},
}

const (
	// perStream is the memory of a stream beside its message.
	perStream = 16 << 10
	// step is the size of one read of a message.
	step = 32 << 10
)

// transportStream is the interface of grpc-go's streams underneath: give a message as it
// arrives, and end.
type transportStream interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	WriteStatus(st *status.Status) error
}

var errTransport = errors.New("this version of grpc-go has streams that cannot be read piece by piece")

// serveCheck answers one question.
func (s *Server) serveCheck(stream grpc.ServerStream) error {
	under, ok := grpc.ServerTransportStreamFromContext(stream.Context()).(transportStream)
	if !ok {
		return errTransport
	}
	one := &incoming{room: s.room, stream: stream, under: under, server: s, refused: make(chan struct{})}
	defer s.room.leave(one)
	req, err := one.receive(s.cfg.MaxMessageBytes, s.cfg.ReceiveTimeout)
	if !s.room.arrived(one) {
		<-one.refused // by somebody who needed the room, or for being late
		return nil
	}
	if err != nil {
		return err
	}
	var res *authv3.CheckResponse
	if req == nil {
		res = s.refuse(stream.Context(), &authv3.CheckRequest{}, deadline.ErrOverload).message
	} else if res, err = s.Check(stream.Context(), req); err != nil {
		return err
	}
	return stream.SendMsg(res) //nolint:wrapcheck // it is grpc-go's own
}

// incoming is a question from its first byte to its answer.
type incoming struct {
	room   *room
	stream grpc.ServerStream
	under  transportStream
	server *Server
	// refused is closed when the question was answered in the place of its own
	// goroutine.
	refused chan struct{}

	// Below is under room's lock.
	taken   int64
	leaving int64         // what it had taken when it was refused, until its goroutine is done
	place   *list.Element // among those that arrive; nil: not among them
	evicted bool
}

// receive reads the question as it arrives. One that is too large or is none comes
// out empty, which [Server.Check] denies; nil stands for one that there is no room
// for. An error says that nobody waits for an answer any more.
func (i *incoming) receive(limit int, within time.Duration) (*authv3.CheckRequest, error) {
	if !i.room.enter(i) {
		return nil, nil
	}
	timer := time.AfterFunc(within, func() { i.room.evict(i) })
	defer timer.Stop()
	var head [5]byte
	if err := i.under.ReadMessageHeader(head[:]); err != nil {
		return nil, status.FromContextError(context.Cause(i.stream.Context())).Err() //nolint:wrapcheck // likewise
	}
	length := int64(binary.BigEndian.Uint32(head[1:]))
	if head[0] != 0 || length > int64(limit) { // compressed, which nobody was told would be read
		return &authv3.CheckRequest{}, nil
	}
	var data mem.BufferSlice
	defer func() { data.Free() }()
	for length > 0 {
		n := min(length, step)
		if !i.room.grow(i, n) {
			return nil, nil
		}
		part, err := i.under.Read(int(n))
		if err != nil {
			return nil, status.Error(codes.Canceled, "the question did not arrive") //nolint:wrapcheck // likewise
		}
		data = append(data, part...)
		length -= n
	}
	req := &authv3.CheckRequest{}
	if err := unmarshal(data, req); err != nil {
		req.Reset()
	}
	return req, nil
}

func unmarshal(data mem.BufferSlice, req *authv3.CheckRequest) error {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	if err := proto.Unmarshal(buf.ReadOnlyData(), req); err != nil {
		return fmt.Errorf("read a question: %w", err)
	}
	return nil
}

// refuse answers in the place of the goroutine that waits for the rest of the
// question, which learns of it by an error.
func (i *incoming) refuse() {
	defer close(i.refused)
	res := i.server.refuse(i.stream.Context(), &authv3.CheckRequest{}, deadline.ErrOverload).message
	if i.stream.SendMsg(res) == nil {
		_ = i.under.WriteStatus(status.New(codes.OK, "")) // the peer is gone if this fails
	}
}

// room is the memory for questions that arrive or are judged. Where it ends, those
// that have sent nothing for longest are refused: an Envoy sends a question in one
// go, and who does not makes room for those who do.
type room struct {
	mu       sync.Mutex
	total    int64
	used     int64
	leaving  int64         // of those that were refused and are not done
	freed    chan struct{} // closed when leaving shrinks, and replaced
	arriving *list.List    // of *incoming, those that have sent nothing for longest first
}

func newRoom(total int64) *room {
	return &room{total: total, arriving: list.New(), freed: make(chan struct{})}
}

// maxHeld bounds the time for which a connection is held back.
const maxHeld = 50 * time.Millisecond

// hold holds a connection back that opens streams faster than those that were
// refused for it can end: nothing is read from it meanwhile.
func (r *room) hold() {
	var timer *time.Timer
	for {
		r.mu.Lock()
		over, freed := r.used+r.leaving > r.total+r.total/4, r.freed
		r.mu.Unlock()
		if !over {
			return
		}
		if timer == nil {
			timer = time.NewTimer(maxHeld)
			defer timer.Stop()
		}
		select {
		case <-freed:
		case <-timer.C:
			return
		}
	}
}

// enter takes a question in, which has nothing but its stream yet.
func (r *room) enter(i *incoming) bool {
	if !r.grow(i, perStream) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.place = r.arriving.PushBack(i)
	return true
}

// grow takes n more bytes for a question.
func (r *room) grow(i *incoming, n int64) bool {
	r.mu.Lock()
	var out []*incoming
	for r.used+n > r.total {
		oldest := r.arriving.Front()
		if oldest == nil || oldest.Value == i || n > r.total {
			break
		}
		one := oldest.Value.(*incoming) //nolint:forcetypeassert // nothing else is in the list
		r.drop(one)
		out = append(out, one)
	}
	ok := !i.evicted && r.used+n <= r.total
	if ok {
		r.used += n
		i.taken += n
		if i.place != nil { // what it asked for before has arrived
			r.arriving.MoveToBack(i.place)
		}
	}
	r.mu.Unlock()
	for _, one := range out {
		one.refuse()
	}
	return ok
}

// drop takes a question out that is still arriving. r.mu is held.
func (r *room) drop(i *incoming) {
	i.evicted = true
	r.arriving.Remove(i.place)
	i.place = nil
	r.used -= i.taken
	r.leaving += i.taken
	i.leaving, i.taken = i.taken, 0
}

// evict refuses a question that has not arrived in time.
func (r *room) evict(i *incoming) {
	r.mu.Lock()
	waiting := i.place != nil
	if waiting {
		r.drop(i)
	}
	r.mu.Unlock()
	if waiting {
		i.refuse()
	}
}

// arrived says that a question does not wait for more. It returns false if the
// question was refused meanwhile.
func (r *room) arrived(i *incoming) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.place != nil {
		r.arriving.Remove(i.place)
		i.place = nil
	}
	return !i.evicted
}

// leave gives back what a question took.
func (r *room) leave(i *incoming) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= i.taken
	i.taken = 0
	if i.leaving > 0 {
		r.leaving -= i.leaving
		i.leaving = 0
		close(r.freed)
		r.freed = make(chan struct{})
	}
}
