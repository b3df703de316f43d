package identity

import (
	"encoding/base64"
	"errors"
	"strings"
)

// headerSays returns an error unless the header of a signed token leaves open what kind of token
// it is, or says that it is of this kind: one kind must not be taken for another.
func headerSays(raw, kind string) error {
	head, _, _ := strings.Cut(raw, ".")
	plain, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return errors.New("its header cannot be read")
	}
	said, err := object(plain)
	if err != nil {
		return errors.New("its header cannot be read")
	}
	if said["typ"] == nil {
		return nil
	}
	typ := strings.TrimPrefix(strings.ToLower(text(said["typ"])), "application/")
	if typ != "jwt" && typ != kind {
		return errors.New("typ says that it is another kind of token")
	}
	return nil
}
