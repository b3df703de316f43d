package extauthz

import (
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what codec wraps
	"google.golang.org/grpc/mem"
)

// codec reads messages. One that is too large, or not what it should be, comes
// out empty, which [Server.Check] denies: left to grpc-go, it would be an error
// of the service.
type codec struct {
	encoding.CodecV2
	maxBytes int
}

func newCodec(maxBytes int) codec {
	return codec{CodecV2: encoding.GetCodecV2("proto"), maxBytes: maxBytes}
}

// Unmarshal reads data into v.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	req, ok := v.(*authv3.CheckRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if data.Len() > c.maxBytes || c.CodecV2.Unmarshal(data, v) != nil {
		req.Reset()
	}
	return nil
}
