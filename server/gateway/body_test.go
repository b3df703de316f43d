package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/models"
	"patrol/server/gateway"
)

func needs(format models.BodyFormat) *judge {
	return &judge{need: &models.BodyNeed{Format: format, Fields: []string{"model"}}}
}

// digest answers with what arrived of a body.
func digest(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%d %s %s", n, hex.EncodeToString(h.Sum(nil)), r.Header.Get("Content-Length"))
}

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("%d %s %d", len(body), hex.EncodeToString(sum[:]), len(body))
}

// jsonOf returns a JSON body of exactly size bytes.
func jsonOf(size int) []byte {
	const start, end = `{"messages":"`, `","model":"llama3"}`
	return []byte(start + strings.Repeat("x", size-len(start)-len(end)) + end)
}

// formOf returns a form with a random file, of about size bytes, and its type.
func formOf(t *testing.T, size int) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	file, err := form.CreateFormFile("file", "speech.wav")
	require.NoError(t, err)
	_, err = io.CopyN(file, rand.NewChaCha8([32]byte{1}), int64(size))
	require.NoError(t, err)
	require.NoError(t, form.WriteField("model", "whisper-1"))
	require.NoError(t, form.Close())
	return b.Bytes(), form.FormDataContentType()
}

func TestBodiesAreReplayedWhole(t *testing.T) {
	form, formType := formOf(t, 200)
	largeForm, largeType := formOf(t, 20<<20)
	for name, c := range map[string]struct {
		format      models.BodyFormat
		body        []byte
		contentType string
		model       string
	}{
		"json":                      {models.BodyJSON, jsonOf(100), "application/json", "llama3"},
		"json to be kept in memory": {models.BodyJSON, jsonOf(1 << 20), "application/json", "llama3"},
		"json to be kept on disk":   {models.BodyJSON, jsonOf(1<<20 + 1), "application/json", "llama3"},
		"json at the limit":         {models.BodyJSON, jsonOf(16 << 20), "application/json", "llama3"},
		"form":                      {models.BodyMultipart, form, formType, "whisper-1"},
		"large form":                {models.BodyMultipart, largeForm, largeType, "whisper-1"},
		"white space survives":      {models.BodyJSON, []byte(" {\n\"model\" : \"m\" } \n"), "", "m"},
		"no model":                  {models.BodyJSON, []byte(`{}`), "application/json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: digest, judge: needs(c.format)})
			for _, body := range []io.Reader{
				bytes.NewReader(c.body),                    // with its length
				io.MultiReader(bytes.NewReader(c.body)),    // chunked
				iotest.HalfReader(bytes.NewReader(c.body)), // in other pieces
			} {
				r := w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", body)
				r.Header.Set("Content-Type", c.contentType)
				res := w.do(r)
				require.Equal(t, http.StatusOK, res.StatusCode, res.body)
				assert.Equal(t, digestOf(c.body), res.body)
				require.NotNil(t, w.last().Body)
				assert.Equal(t, c.model, w.last().Body.Model())
			}
		})
	}
}

func TestNoBodyNamesNoModel(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON)})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		res := w.do(w.request(t.Context(), method, "/proxy/acme/v1/x", nil))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Nil(t, w.last().Body)
	}
}

func TestBodiesThatAreNotLookedAtStream(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, config: func(c *gateway.Config) { c.MaxJSONBody, c.MaxMultipartBody = 1, 1 }})
	body := bytes.Repeat([]byte{0xff}, 3<<20)
	res := w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", bytes.NewReader(body)))
	assert.Equal(t, digestOf(body), res.body)
	assert.Nil(t, w.last().Body)
	// Chunked stays chunked.
	res = w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", io.MultiReader(bytes.NewReader(body))))
	assert.Equal(t, strings.TrimSuffix(digestOf(body), strconv.Itoa(len(body))), res.body)
}

func TestBodiesOverTheLimit(t *testing.T) {
	form, formType := formOf(t, 4<<20)
	var reached atomic.Int32
	for name, c := range map[string]struct {
		format      models.BodyFormat
		limit       int64
		body        []byte
		contentType string
	}{
		"one byte more":            {models.BodyJSON, 1000, jsonOf(1001), "application/json"},
		"one byte more on disk":    {models.BodyJSON, 3 << 20, jsonOf(3<<20 + 1), "application/json"},
		"form":                     {models.BodyMultipart, 2 << 20, form, formType},
		"json by another name":     {models.BodyJSON, 1 << 20, form, formType},
		"the model comes too late": {models.BodyJSON, 20, []byte(`{"model":"m"}` + strings.Repeat(" ", 10)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{
				judge:    needs(c.format),
				upstream: func(http.ResponseWriter, *http.Request) { reached.Add(1) },
				config: func(cfg *gateway.Config) {
					if c.format == models.BodyJSON {
						cfg.MaxJSONBody = c.limit
					} else {
						cfg.MaxMultipartBody = c.limit
					}
				},
			})
			// The client may be cut off while it still sends; without keep-alive
			// it reads the answer all the same.
			for _, chunked := range []bool{false, true} {
				res := w.post(c.body, c.contentType, chunked)
				assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
				assert.Equal(t, "body_too_large", res.code())
				assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
				assert.Contains(t, res.body, requestID)
			}
			assert.Empty(t, w.last().Method, "it was judged")
		})
	}
	assert.Zero(t, reached.Load())
}

// post sends a body over a connection of its own and reads the answer while it
// does, as clients should.
func (w *world) post(body []byte, contentType string, chunked bool) reply {
	conn := w.dial()
	go func() { // ends with the connection at the latest
		head := "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + goodToken + "\r\nContent-Type: " + contentType + "\r\n"
		if chunked {
			_, _ = fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(body), body)
			return
		}
		_, _ = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return reply{res, string(text)}
}

func TestBodyTricksAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		format  models.BodyFormat
		body    string
		headers map[string]string
		status  int
		code    string
		says    string
	}{
		"no JSON":           {models.BodyJSON, `model=a`, nil, 400, "body_invalid", "JSON"},
		"two models":        {models.BodyJSON, `{"model":"a","model":"b"}`, nil, 400, "body_invalid", `"model" more than once`},
		"case variant":      {models.BodyJSON, `{"Model":"a"}`, nil, 400, "body_invalid", `"model"`},
		"BOM":               {models.BodyJSON, "\xef\xbb\xbf{\"model\":\"a\"}", nil, 400, "body_invalid", "JSON"},
		"gzip":              {models.BodyJSON, `{"model":"a"}`, map[string]string{"Content-Encoding": "gzip"}, 415, "encoding_unsupported", "Content-Encoding"},
		"UTF-16":            {models.BodyJSON, `{"model":"a"}`, map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415, "encoding_unsupported", "UTF-8"},
		"form for json":     {models.BodyJSON, "--b\r\n\r\n", map[string]string{"Content-Type": "multipart/form-data; boundary=b"}, 400, "body_invalid", "JSON"},
		"json for form":     {models.BodyMultipart, `{"model":"a"}`, map[string]string{"Content-Type": "application/json"}, 400, "body_invalid", "multipart/form-data"},
		"unknown to us":     {"yaml", "model: a", nil, 400, "body_invalid", "unknown format"},
		"large and refused": {models.BodyJSON, string(jsonOf(2<<20)) + "x", nil, 400, "body_invalid", "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: digest, judge: needs(c.format)})
			r := w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", strings.NewReader(c.body))
			for name, value := range c.headers {
				r.Header.Set(name, value)
			}
			res := w.do(r)
			assert.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, c.code, res.code())
			var p api.Problem
			require.NoError(t, json.Unmarshal([]byte(res.body), &p))
			assert.Contains(t, p.Reasons[0].Message, c.says)
			assert.Empty(t, w.last().Method, "it was judged")
		})
	}
}

func TestTheDiskFails(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON), config: func(c *gateway.Config) {
		c.TempDir += "/none"
	}})
	res := w.post(jsonOf(2<<20), "", false)
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.Equal(t, "unavailable", res.code())
	assert.NotContains(t, res.body, "none")
}

func TestSlowBody(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON), config: func(c *gateway.Config) { c.BodyTimeout = 50 * time.Millisecond }})
	conn := w.dial()
	_, err := io.WriteString(conn, "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+goodToken+"\r\nContent-Length: 10\r\n\r\n{")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusRequestTimeout, res.StatusCode)
}

func TestBrokenBody(t *testing.T) {
	for name, need := range map[string]*models.BodyNeed{"looked at": {Format: models.BodyJSON, Fields: []string{"model"}}, "streamed": nil} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: digest, judge: &judge{need: need}})
			res := w.rawBody("Transfer-Encoding: chunked", "1\r\n{\r\nzz\r\n")
			assert.Equal(t, http.StatusBadRequest, res.StatusCode)
			assert.Equal(t, "malformed_request", res.code())
		})
	}
}

// rawBody posts with a header that says how the body is framed, and the body.
func (w *world) rawBody(framing, body string, headers ...string) reply {
	conn := w.dial()
	head := append([]string{"POST /proxy/acme/v1/x HTTP/1.1", "Host: x", "Authorization: Bearer " + goodToken, framing}, headers...)
	_, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"+body)
	require.NoError(w.t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return reply{res, string(text)}
}

func TestRequestTrailersDoNotPass(t *testing.T) {
	for name, j := range map[string]*judge{"looked at": needs(models.BodyJSON), "streamed": {}} {
		t.Run(name, func(t *testing.T) {
			var trailer http.Header
			w := newWorld(t, setup{judge: j, upstream: func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				trailer = r.Trailer
			}})
			res := w.rawBody("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\nX-Patrol-User: root\r\n\r\n", "Trailer: X-Patrol-User")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Empty(t, trailer)
		})
	}
}

// A client that offers to wait with its body is asked for it only once the
// secret has verified, and nothing of it is read before.
func TestExpectContinue(t *testing.T) {
	const body = `{"model":"llama3"}`
	for name, c := range map[string]struct {
		token     string
		judge     *judge
		status    int
		continued bool
	}{
		"good token, body looked at":          {goodToken, needs(models.BodyJSON), 200, true},
		"good token, body streamed":           {goodToken, &judge{}, 200, true},
		"bad token, body to be looked at":     {"patrol_x", needs(models.BodyJSON), 401, false},
		"bad token, body to be streamed":      {"patrol_x", &judge{}, 401, false},
		"denied without a look at the body":   {goodToken, &judge{decide: denial}, 401, false},
		"denied after a look at the body":     {goodToken, &judge{need: needs(models.BodyJSON).need, decide: denial}, 401, true},
		"ambiguous before a look at the body": {goodToken, &judge{hintsErr: io.ErrUnexpectedEOF}, 503, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: digest, judge: c.judge})
			conn := w.dial()
			_, err := fmt.Fprintf(conn, "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", c.token, len(body))
			require.NoError(t, err)
			r := bufio.NewReader(conn)
			if c.continued {
				status, err := r.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "HTTP/1.1 100 Continue\r\n", status)
				_, err = r.ReadString('\n')
				require.NoError(t, err)
				_, err = io.WriteString(conn, body)
				require.NoError(t, err)
			}
			res, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			defer res.Body.Close()
			assert.Equal(t, c.status, res.StatusCode)
			answer, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			if c.status == http.StatusOK {
				assert.Equal(t, digestOf([]byte(body)), string(answer))
			}
		})
	}
}

func denial(models.HTTPRequest, models.Request) models.Decision {
	return models.Deny(models.TokenUnknown)
}

// A body that is not asked for is not read for a caller with a bad token: the
// handler is done with it before the client has sent a byte.
func TestNoBodyIsReadForABadToken(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON)})
	conn := w.dial()
	_, err := io.WriteString(conn, "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer patrol_x\r\nContent-Length: 10\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
}
