package models

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The parts of a token's text and their lengths.
const (
	TokenPrefix  = "patrol_"  // of a PAT
	BearerPrefix = "patrols_" // of a session token, which is never a PAT

	IDLength       = 16
	secretLength   = 32
	checksumLength = 6
	// TokenLength is the length of a PAT's text.
	TokenLength = len(TokenPrefix) + IDLength + 1 + secretLength + checksumLength
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Token is a PAT in plain text, split into its parts. It masks its secret in
// every form of output; [Token.Reveal] is the one way to the text.
type Token struct {
	ID     string // public
	secret string
}

// Mint draws a new token from random, which is crypto/rand.Reader outside
// tests. It fails only if random does.
func Mint(random io.Reader) (Token, error) {
	chars, err := randomBase62(random, IDLength+secretLength)
	if err != nil {
		return Token{}, fmt.Errorf("mint a token: %w", err)
	}
	return Token{ID: chars[:IDLength], secret: chars[IDLength:]}, nil
}

// IsTokenID reports whether a text has the form of a token's public id.
func IsTokenID(s string) bool { return len(s) == IDLength && strings.Trim(s, base62) == "" }

// NewID draws an id of [IDLength] base62 characters, for users, scopes and the
// like.
func NewID() string {
	id, err := randomBase62(rand.Reader, IDLength)
	if err != nil { // crypto/rand never fails; it ends the program instead
		panic(err)
	}
	return id
}

// randomBase62 draws n characters, each of the 62 with the same probability:
// bytes past the largest multiple of 62 are thrown away, since a plain modulo
// would favour the first characters.
func randomBase62(random io.Reader, n int) (string, error) {
	const limit = 256 - 256%len(base62)
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return "", err
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, base62[int(b)%len(base62)])
			}
		}
	}
	return string(out), nil
}

// ParseToken splits the text of a PAT after checking its shape and checksum. The
// error carries no part of the text. A text that parses is not yet known to be
// a real token: see [Keyring.Verify].
func ParseToken(text string) (Token, error) {
	if len(text) != TokenLength || text[:len(TokenPrefix)] != TokenPrefix || text[len(TokenPrefix)+IDLength] != '_' {
		return Token{}, errTokenShape
	}
	rest := text[len(TokenPrefix):]
	for i := range len(rest) {
		if i != IDLength && !isBase62(rest[i]) {
			return Token{}, errTokenShape
		}
	}
	body, sum := text[:TokenLength-checksumLength], text[TokenLength-checksumLength:]
	if want := checksum(body); string(want[:]) != sum {
		return Token{}, errTokenChecksum
	}
	return Token{ID: rest[:IDLength], secret: rest[IDLength+1 : IDLength+1+secretLength]}, nil
}

var (
	errTokenShape    = NewError(CodeMalformed, "this is not a Patrol token: expected patrol_, 16 letters or digits, _, 38 letters or digits")
	errTokenChecksum = NewError(CodeMalformed, "the token's checksum does not match: it was probably cut or mistyped")
)

func isBase62(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// checksum is the CRC-32 (IEEE) of body in base62, most significant digit first.
func checksum(body string) [checksumLength]byte {
	var buf [TokenLength]byte // keeps the conversion off the heap
	sum := crc32.ChecksumIEEE(buf[:copy(buf[:], body)])
	var out [checksumLength]byte
	for i := checksumLength - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return out
}

// Reveal returns the whole text of the token, secret included.
func (t Token) Reveal() string {
	body := TokenPrefix + t.ID + "_" + t.secret
	sum := checksum(body)
	return body + string(sum[:])
}

// String masks the secret.
func (t Token) String() string { return TokenPrefix + t.ID + "_***" }

// GoString masks the secret.
func (t Token) GoString() string { return t.String() }

// LogValue masks the secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText refuses, so that a token cannot end up in a JSON document by
// accident.
func (t Token) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("a token's secret is not written: use Reveal where it is meant")
}

// Key is one HMAC key of a [Keyring].
type Key struct {
	ID     string // 1–32 characters of [a-z0-9-]
	Secret []byte // at least 32 bytes

	hashes *sync.Pool // of *hashing; shared by copies
}

// Keyring holds the keys that tokens are hashed with. The first is used for new
// tokens, all of them to verify. It masks itself when printed or logged.
//
// Copies share their keys: after [Keyring.Replace] all of them have the new ones.
// It is safe for concurrent use.
type Keyring struct {
	state *atomic.Pointer[ring]
}

// ring is an immutable state of a [Keyring].
type ring struct {
	keys    []Key
	retired []string // ids of keys that are out of use for good
}

// NewKeyring returns a ring with the current key first. It refuses an empty
// ring, short keys, and ids that repeat or have other characters than
// [a-z0-9-].
func NewKeyring(keys ...Key) (Keyring, error) {
	if len(keys) == 0 {
		return Keyring{}, fmt.Errorf("the key ring is empty")
	}
	seen := map[string]bool{}
	for i, k := range keys {
		switch {
		case !validKeyID(k.ID):
			return Keyring{}, fmt.Errorf("key %d: the id must be 1 to 32 characters of a-z, 0-9 and -", i+1)
		case len(k.Secret) < sha256.Size:
			return Keyring{}, fmt.Errorf("key %q has %d bytes; at least %d are needed", k.ID, len(k.Secret), sha256.Size)
		case seen[k.ID]:
			return Keyring{}, fmt.Errorf("key id %q is there twice", k.ID)
		}
		seen[k.ID] = true
	}
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i].hashes = &sync.Pool{}
	}
	r := Keyring{state: new(atomic.Pointer[ring])}
	r.state.Store(&ring{keys: keys})
	return r, nil
}

// Replace gives this ring and all copies of it the keys of another one.
func (r Keyring) Replace(by Keyring) { r.state.Store(by.state.Load()) }

// Arrange returns a ring of its own with the same keys, of which the one with the
// id current, if it is there, is the first, and without the retired ones. It
// refuses to retire the last key.
func (r Keyring) Arrange(current string, retired []string) (Keyring, error) {
	var first, rest []Key
	for _, k := range r.state.Load().keys {
		switch {
		case slices.Contains(retired, k.ID):
		case k.ID == current:
			first = append(first, k)
		default:
			rest = append(rest, k)
		}
	}
	keys := append(first, rest...)
	if len(keys) == 0 {
		return Keyring{}, fmt.Errorf("all keys of the ring are retired")
	}
	arranged := Keyring{state: new(atomic.Pointer[ring])}
	arranged.state.Store(&ring{keys: keys, retired: slices.Clone(retired)})
	return arranged, nil
}

// ParseKeyring reads the form `id:base64,id:base64`, current key first. Line
// breaks count as commas, and blank entries are passed over. Errors name keys by
// id, never by content.
func ParseKeyring(text string) (Keyring, error) {
	var keys []Key
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		id, encoded, ok := strings.Cut(entry, ":")
		if !ok || !validKeyID(id) {
			return Keyring{}, fmt.Errorf("key %d is not of the form id:base64", len(keys)+1)
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return Keyring{}, fmt.Errorf("key %q is not valid base64", id)
		}
		keys = append(keys, Key{ID: id, Secret: secret})
	}
	return NewKeyring(keys...)
}

func validKeyID(id string) bool {
	if len(id) < 1 || len(id) > 32 {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Current returns the id of the key that new tokens are hashed with.
func (r Keyring) Current() string { return r.state.Load().keys[0].ID }

// IDs returns the ids of all keys, the current one first.
func (r Keyring) IDs() []string {
	keys := r.state.Load().keys
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	return ids
}

// KeyStatus is the status of a key id in a ring.
type KeyStatus int

// The statuses of a key id.
const (
	KeyUnknown KeyStatus = iota // nothing can be said about a token of this key
	KeyKnown
	KeyRetired // no token of this key is good any more
)

// Status returns what the ring knows of a key.
func (r Keyring) Status(id string) KeyStatus {
	state := r.state.Load()
	for _, k := range state.keys {
		if k.ID == id {
			return KeyKnown
		}
	}
	if slices.Contains(state.retired, id) {
		return KeyRetired
	}
	return KeyUnknown
}

// keyCheckText is the text whose hash is a key's check value. No token has this form.
const keyCheckText = "patrol key check value, version 1"

// Check returns a value by which two servers can tell whether they mean the same
// key by an id, "" if the ring lacks it. It says nothing about the key's secret
// to whoever does not know it.
func (r Keyring) Check(id string) string {
	for _, k := range r.state.Load().keys {
		if k.ID == id {
			h := hmac.New(sha256.New, k.Secret)
			h.Write([]byte(keyCheckText))
			return hex.EncodeToString(h.Sum(nil)[:8])
		}
	}
	return ""
}

// Seal returns a code by which [Keyring.Sealed] knows text again, as long as the current
// key is in the ring. Each purpose has a key of its own, and none is that of tokens.
func (r Keyring) Seal(purpose, text string) []byte {
	return sealWith(r.state.Load().keys[0], purpose, text)
}

// Sealed reports whether seal is what [Keyring.Seal] returned for the purpose and text,
// under any key of the ring.
func (r Keyring) Sealed(purpose, text string, seal []byte) bool {
	for _, k := range r.state.Load().keys {
		if hmac.Equal(sealWith(k, purpose, text), seal) {
			return true
		}
	}
	return false
}

func sealWith(k Key, purpose, text string) []byte {
	derive := hmac.New(sha256.New, k.Secret)
	derive.Write([]byte("patrol seal: " + purpose)) // no token has this form
	h := hmac.New(sha256.New, derive.Sum(nil))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Sum returns the HMAC-SHA-256 of `<id>_<secret>` under the current key, and
// that key's id.
func (r Keyring) Sum(t Token) (mac []byte, keyID string) {
	current := &r.state.Load().keys[0]
	h := current.take()
	defer current.give(h)
	return bytes.Clone(h.sum(t)), current.ID
}

// hashing holds the hash and the buffer for one token. They are used again for the next.
type hashing struct {
	hash.Hash // has taken in the secret already
	buf       [IDLength + 1 + secretLength]byte
}

// take returns one that nobody uses.
func (k *Key) take() *hashing {
	h, ok := k.hashes.Get().(*hashing)
	if !ok {
		h = &hashing{Hash: hmac.New(sha256.New, k.Secret)}
	}
	return h
}

// give takes one back, without what it was used for.
func (k *Key) give(h *hashing) {
	h.Reset()
	clear(h.buf[:])
	k.hashes.Put(h)
}

// sum returns the hash of a token in h's own buffer.
func (h *hashing) sum(t Token) []byte {
	n := copy(h.buf[:], t.ID)
	n += copy(h.buf[n:], "_")
	n += copy(h.buf[n:], t.secret)
	h.Write(h.buf[:n])
	return h.Sum(h.buf[:0])
}

// Verify reports whether mac, made with the key keyID, is the hash of t. It
// computes one HMAC and compares in constant time whatever it is given, so
// that a caller who found no record can pass "" and nil and take as long as one
// who did.
func (r Keyring) Verify(t Token, keyID string, mac []byte) bool {
	keys := r.state.Load().keys
	key, known := &keys[0], false
	for i := range keys {
		if keys[i].ID == keyID {
			key, known = &keys[i], true
		}
	}
	h := key.take()
	same := subtle.ConstantTimeCompare(h.sum(t), mac) == 1
	key.give(h)
	return same && known
}

// String names the keys without their content.
func (r Keyring) String() string { return "keyring(" + strings.Join(r.IDs(), ",") + ")" }

// GoString names the keys without their content.
func (r Keyring) GoString() string { return r.String() }

// LogValue names the keys without their content.
func (r Keyring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText refuses, so that keys are not written by accident.
func (r Keyring) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("a key ring is not written")
}
