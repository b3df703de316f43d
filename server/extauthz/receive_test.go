package extauthz_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"patrol/server/extauthz"
)

// peer is a client of the service that sends what it likes.
type peer struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	next   uint32
}

func (b *bed) peer(t *testing.T) *peer {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", b.server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	p := &peer{t: t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	require.NoError(t, p.framer.WriteSettings())
	// It reads late: without a larger window, the answers to a hundred calls would stand.
	require.NoError(t, p.framer.WriteWindowUpdate(0, 1<<20))
	return p
}

// callHeader is the header of a call.
func callHeader(t *testing.T) []byte {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", authv3.Authorization_Check_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	return block.Bytes()
}

// begin opens a call with a message of a declared size, of which it sends data.
func (p *peer) begin(declared uint32, data []byte) (stream uint32) {
	p.t.Helper()
	stream = p.next
	p.next += 2
	require.NoError(p.t, p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: callHeader(p.t), EndHeaders: true}))
	message := binary.BigEndian.AppendUint32([]byte{0}, declared)
	for message = append(message, data...); len(message) > 0; {
		n := min(len(message), 16<<10)
		require.NoError(p.t, p.framer.WriteData(stream, false, message[:n]))
		message = message[n:]
	}
	return stream
}

// answer returns what a call was answered with.
func (p *peer) answer(stream uint32) *authv3.CheckResponse {
	p.t.Helper()
	var message []byte
	for {
		frame, err := p.framer.ReadFrame()
		require.NoError(p.t, err)
		if frame.Header().StreamID != stream {
			continue
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			message = append(message, data.Data()...)
		}
		if frame.Header().Flags.Has(http2.FlagHeadersEndStream) && frame.Header().Type == http2.FrameHeaders {
			require.Greater(p.t, len(message), 5, "an answer, not an error")
			res := new(authv3.CheckResponse)
			require.NoError(p.t, proto.Unmarshal(message[5:], res))
			return res
		}
	}
}

// A message that is too large is denied when its head has arrived, and one that does
// not arrive is denied in time: an error would let Envoy decide.
func TestMessagesThatDoNotArrive(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.MaxMessageBytes, c.ReceiveTimeout = 64<<10, 100*time.Millisecond })
	p := b.peer(t)
	assert.Equal(t, 400, denialStatus(p.answer(p.begin(512<<20, nil))), "too large")
	assert.Equal(t, 503, denialStatus(p.answer(p.begin(1000, []byte("x")))), "stalled")
	assert.Equal(t, 503, denialStatus(p.answer(p.begin(60<<10, bytes.Repeat([]byte("x"), 50<<10)))), "stalled later")
}

// Messages that are declared and do not come, of however many connections and
// streams, take no more than the room that there is for them; those who send theirs
// are answered all the while, and none is left without an answer.
func TestMessagesHaveNoMoreThanTheirRoom(t *testing.T) {
	b := start(t, func(c *extauthz.Config) {
		c.MaxMessageBytes, c.MaxReceiving, c.ReceiveTimeout, c.Timeout = 512<<10, 12<<20, time.Hour, 10*time.Second
	})
	_, token := b.Mint(t, "u1", "acme:models:*:execute")
	ask := question("POST", "/proxy/acme/v1/chat/completions", bearer(token))
	ask.GetAttributes().GetRequest().GetHttp().RawBody = append([]byte(`{"model":"llama3","prompt":"`), append(bytes.Repeat([]byte("x"), 100<<10), `"}`...)...)
	var sending, stalling sync.WaitGroup
	sending.Add(4)
	for range 4 {
		stalling.Go(func() {
			p := b.peer(t)
			for range 100 {
				p.begin(400<<10, bytes.Repeat([]byte("x"), 10<<10))
			}
			sending.Done()
			assert.Equal(t, 503, denialStatus(p.answer(1)), "who waits longest makes room")
		})
	}
	sending.Wait()
	for range 50 {
		require.NotNil(t, b.ask(t, ask).GetOkResponse())
	}
	for range 4 { // more than all of the room, so that whoever stalls loses theirs, whose ever came first
		late := b.peer(t)
		for range 200 {
			late.begin(400<<10, bytes.Repeat([]byte("x"), 10<<10))
		}
	}
	stalling.Wait()
	require.NotNil(t, b.ask(t, ask).GetOkResponse())
}
