package identity

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/alexedwards/scs/v2"

	"patrol/models"
	"patrol/server/request"
)

// A browser that somebody signed in with is known to their account from then on, by a
// cookie. It signs nobody in: all it does is that the failures of strangers do not
// count against it. It names no account, and is worth nothing to another one.

// knownFor is the time after a sign-in for which a browser is known.
const knownFor = 90 * 24 * time.Hour

// knownPurpose tells the key of these cookies from all others.
const knownPurpose = "known browser, version 1"

// knownID is the part of the cookie's value that tells browsers apart.
const knownID = 16

// browserCookie is the name of the cookie of a known browser.
func (s *Service) browserCookie() string { return s.cookies.name("browser") }

// knowBrowser makes the browser that is answered known to a user.
func (s *Service) knowBrowser(w http.ResponseWriter, userID string) error {
	plain := make([]byte, knownID+8)
	if _, err := io.ReadFull(s.random, plain[:knownID]); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(plain[knownID:], uint64(s.now().Add(knownFor).Unix())) //nolint:gosec // a time after 1970
	value := base64.RawURLEncoding.EncodeToString(slices.Concat(plain, s.sealBrowser(plain, userID)))
	s.cookies.set(w, s.browserCookie(), value, "/", http.SameSiteLaxMode, knownFor)
	return nil
}

func (s *Service) sealBrowser(plain []byte, userID string) []byte {
	return s.keys.Seal(knownPurpose, string(plain)+userID)
}

// knownBrowser returns what tells the browser apart that sent h if it is known to a
// user, "" if not.
func (s *Service) knownBrowser(h http.Header, userID string) string {
	if userID == "" {
		return ""
	}
	cookie, err := (&http.Request{Header: h}).Cookie(s.browserCookie())
	if err != nil || len(cookie.Value) > 256 {
		return ""
	}
	value, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(value) <= knownID+8 {
		return ""
	}
	plain, seal := value[:knownID+8], value[knownID+8:]
	ends := int64(binary.BigEndian.Uint64(plain[knownID:])) //nolint:gosec // it was sealed, or the seal is wrong
	if !s.keys.Sealed(knownPurpose, string(plain)+userID, seal) || s.now().Unix() >= ends {
		return ""
	}
	return "browser " + string(plain[:knownID])
}

// hasSessionFrom reports whether a user is signed in at the address of a request. An
// account that does not exist is looked for all the same.
func (s *Service) hasSessionFrom(ctx context.Context, userID string, by models.Actor) bool {
	sessions, err := s.store.Sessions().ByUser(ctx, userID)
	if err != nil {
		s.log.WarnContext(ctx, "the sessions of an account could not be looked up", "request_id", request.ID(ctx), "error", err)
		return false
	}
	for _, one := range sessions {
		_, values, err := scs.GobCodec{}.Decode(one.Data)
		if err != nil {
			continue
		}
		if ip, _ := values[sessionIP].(string); sameNetwork(ip, by.IP) {
			return true
		}
	}
	return false
}

func sameNetwork(a, b string) bool {
	one, errA := netip.ParseAddr(a)
	two, errB := netip.ParseAddr(b)
	return errA == nil && errB == nil && request.Network(one) == request.Network(two)
}
