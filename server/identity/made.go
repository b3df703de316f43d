package identity

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"patrol/models"
)

// A form that makes a secret answers with the address of a page that shows it, so that
// neither Back nor a reload sends the form again. On the way to that page the secret is in
// two places that are of no use alone: encrypted in the database, for any server to
// find, and the key in a cookie that only that page is sent. Seeing the page removes
// both. See docs/decisions/0029-shown-once.md.

// Made is a secret that a form made and a page shows once.
type Made struct {
	Secret  string
	Old     string    `json:",omitempty"` // id of the token that was rotated
	URL     string    `json:",omitempty"` // that holds the secret in its fragment
	Expires time.Time `json:",omitzero"`  // of the secret, if no record says so
	For     string    `json:",omitempty"` // the address that a link confirms
	// Of a reset link: what was removed with its creation, and what works on.
	Removed models.WaysIn `json:",omitzero"`
	Stays   models.WaysIn `json:",omitzero"`
}

const (
	// revealWithin bounds the time in which the browser must come for the secret.
	revealWithin = 2 * time.Minute
	sessionMade  = "made" // key of the encrypted thing in its row
)

// KeepMade keeps what was made for the page of p at path, which shows it once.
func (s *Service) KeepMade(ctx context.Context, w http.ResponseWriter, p models.Principal, path string, what Made) error {
	plain, err := json.Marshal(what) //nolint:gosec // and encrypted below
	if err != nil {
		return err
	}
	var drawn [48]byte
	if _, err := io.ReadFull(s.random, drawn[:]); err != nil {
		return err
	}
	id, key := drawn[:16], drawn[16:]
	aead, err := revealCipher(key)
	if err != nil {
		return err
	}
	expires := s.now().Add(revealWithin).UTC()
	sealed := aead.Seal(nil, nil, plain, revealFor(p, path)) //nolint:gosec // it draws a nonce itself
	data, err := scs.GobCodec{}.Encode(expires, map[string]any{sessionMade: sealed})
	if err != nil {
		return err
	}
	if err := s.store.Sessions().CommitCtx(ctx, revealRow(id), data, expires); err != nil {
		return err
	}
	s.setRevealCookie(w, path, base64.RawURLEncoding.EncodeToString(drawn[:]))
	return nil
}

// TakeMade returns what a form made for p to see at the address of the request, and removes
// it. there is false if it was shown before, or another browser asks, or too late.
func (s *Service) TakeMade(w http.ResponseWriter, r *http.Request, p models.Principal) (what Made, there bool, err error) {
	ctx, path := r.Context(), r.URL.Path
	drawn := s.revealKey(r)
	if drawn == nil || r.Method != http.MethodGet { // looking at the headers is not seeing
		return Made{}, false, nil
	}
	id, key := drawn[:16], drawn[16:]
	what, there, err = s.findMade(ctx, id, key, revealFor(p, path))
	if err != nil || !there {
		return Made{}, false, err
	}
	if err := s.store.Sessions().DeleteCtx(ctx, revealRow(id)); err != nil {
		return Made{}, false, err
	}
	s.setRevealCookie(w, path, "")
	return what, true, nil
}

// revealKey returns the content of the browser's cookie: the id of the row and the key. It is nil if there is
// none, or one that is not ours.
func (s *Service) revealKey(r *http.Request) []byte {
	cookie, err := r.Cookie(s.revealCookie())
	if err != nil {
		return nil
	}
	if drawn, err := base64.RawURLEncoding.DecodeString(cookie.Value); err == nil && len(drawn) == 48 {
		return drawn
	}
	return nil
}

func (s *Service) findMade(ctx context.Context, id, key, aad []byte) (what Made, there bool, err error) {
	data, there, err := s.store.Sessions().FindCtx(ctx, revealRow(id))
	if err != nil || !there {
		return Made{}, false, err
	}
	_, values, err := scs.GobCodec{}.Decode(data)
	if err != nil {
		return Made{}, false, err
	}
	sealed, _ := values[sessionMade].([]byte)
	aead, err := revealCipher(key)
	if err != nil {
		return Made{}, false, err
	}
	plain, err := aead.Open(nil, nil, sealed, aad)
	if err != nil { // another user's, or another page's
		return Made{}, false, nil //nolint:nilerr // as the line above says
	}
	return what, true, json.Unmarshal(plain, &what)
}

func revealCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// revealFor binds what was made to who made it and where it is shown.
func revealFor(p models.Principal, path string) []byte { return []byte(p.User.ID + " " + path) }

// revealRow names the row: no session token has this hash.
func revealRow(id []byte) string {
	sum := sha256.Sum256(append([]byte("made "), id...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Service) revealCookie() string { return s.cookies.pathName("made") }

// setRevealCookie hands the browser the key for the page at path; "" takes it away.
func (s *Service) setRevealCookie(w http.ResponseWriter, path, value string) {
	s.cookies.set(w, s.revealCookie(), value, path, http.SameSiteStrictMode, revealWithin)
}
