package config

import (
	"fmt"
	"strings"

	"patrol/models"
)

// isPath tells a path from a ring in token_keys, which takes either: a ring has
// a colon after its first id, and ids have neither dots nor slashes.
func isPath(text string) bool {
	id, _, ok := strings.Cut(text, ":")
	return !ok || strings.ContainsAny(id, `./\`)
}

// Keyring returns the configured token keys, and false if there are none.
func (c Config) Keyring() (ring models.Keyring, ok bool, err error) {
	text := c.TokenKeys.Reveal()
	if text == "" {
		return models.Keyring{}, false, nil
	}
	if isPath(text) {
		content, err := readFile(text)
		if err != nil {
			return models.Keyring{}, false, fmt.Errorf("token_keys is neither a ring of the form id:base64 nor a file that can be read")
		}
		text = string(content)
	}
	if ring, err = models.ParseKeyring(text); err != nil {
		return models.Keyring{}, false, fmt.Errorf("token_keys: %w", err)
	}
	return ring, true, nil
}

// KeyringFile returns the file that token_keys or token_keys_file names, and false if
// there is none.
func (c Config) KeyringFile() (path string, ok bool) {
	if text := c.TokenKeys.Reveal(); text != "" && isPath(text) {
		return text, true
	}
	return c.keyringFile, c.keyringFile != ""
}
