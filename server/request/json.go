package request

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
)

var (
	jsonType    = []string{"application/json; charset=utf-8"}
	problemType = []string{"application/problem+json"}

	bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

	// stable writes the members of maps in order, so that equal answers are
	// equal bytes.
	stable = json.Deterministic(true)
)

// WriteJSON answers with status and v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header()["Content-Type"] = jsonType
	writeJSON(w, status, v)
}

// writeJSON marshals before it writes, so that a defect there can still become a
// 500.
func writeJSON(w http.ResponseWriter, status int, v any) {
	buf := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(buf)
	buf.Reset()
	if err := json.MarshalWrite(buf, v, stable); err != nil {
		panic(fmt.Errorf("marshal an answer: %w", err)) // the types are ours; recovered and logged
	}
	buf.WriteByte('\n')
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client is gone if this fails; nobody is left to tell
}
