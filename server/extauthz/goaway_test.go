package extauthz_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
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

// At the end a connection is told to take no new streams while one is still under
// way, and that one gets its answer. The frames are read one by one: a gRPC client
// would hide the order.
func TestGoAwayComesBeforeTheLastAnswer(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.Timeout = 10 * time.Second })
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	b.Gate(func(context.Context) error { arrived <- struct{}{}; <-release; return nil })

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.server.Addr())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	frames := http2.NewFramer(conn, conn)
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, frames.WriteSettings())
	var header bytes.Buffer
	encode := hpack.NewEncoder(&header)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", authv3.Authorization_Check_FullMethodName},
		{":authority", "patrol"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		require.NoError(t, encode.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	require.NoError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true}))
	message, err := proto.Marshal(question("GET", "/proxy/acme/v1/models", bearer(token)))
	require.NoError(t, err)
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	require.NoError(t, frames.WriteData(1, true, append(prefix, message...)))
	<-arrived

	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	var answer []byte
	goneAway, status := false, ""
	for status == "" {
		frame, err := frames.ReadFrame()
		require.NoError(t, err, "the connection ended before the answer")
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				require.NoError(t, frames.WriteSettingsAck())
			}
		case *http2.PingFrame: // the server asks this way whether the client has seen it
			require.NoError(t, frames.WritePing(true, f.Data))
		case *http2.GoAwayFrame:
			assert.Equal(t, http2.ErrCodeNo, f.ErrCode)
			assert.GreaterOrEqual(t, f.LastStreamID, uint32(1), "the stream under way counts")
			if !goneAway {
				goneAway = true
				close(release)
			}
		case *http2.DataFrame:
			require.True(t, goneAway, "an answer before the end was told")
			answer = append(answer, f.Data()...)
		case *http2.MetaHeadersFrame:
			require.True(t, goneAway, "an answer before the end was told")
			for _, field := range f.Fields {
				if field.Name == "grpc-status" {
					status = field.Value
				}
			}
		}
	}
	assert.Equal(t, "0", status)
	var res authv3.CheckResponse
	require.Greater(t, len(answer), 5)
	require.NoError(t, proto.Unmarshal(answer[5:], &res))
	assert.Equal(t, 200, denialStatus(&res))
	<-stopped
}
