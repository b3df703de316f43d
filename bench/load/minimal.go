package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"patrol/bench"
)

// minimalPolicy is a policy that a user could write instead of using Patrol: the tokens are data,
// and the answer is yes or no.
const minimalPolicy = `package minimal

default allow := false

allow if {
	token := data.world.tokens[input.token]
	token.expires_at > input.now
	data.world.roles[token.role][input.entity_type][input.operation]
	some entity in [input.entity, "*"]
	token.scopes[input.domain][input.entity_type][input.operation][entity]
}
`

// writeMinimal writes the policy and its world to a new folder.
func writeMinimal(dir string, w *bench.World) error {
	tokens := map[string]any{}
	for _, h := range w.Holders {
		tokens[h.PAT.ID] = map[string]any{"role": h.Membership.Role, "expires_at": h.PAT.ExpiresAt.Unix(), "scopes": scopesOf(h)}
	}
	roles := map[string]any{"member": map[string]any{"models": map[string]bool{"read": true, "execute": true}}}
	world, err := json.Marshal(map[string]any{"world": map[string]any{"tokens": tokens, "roles": roles}})
	if err != nil {
		return fmt.Errorf("write the world for OPA: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "data.json"), world, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "minimal.rego"), []byte(minimalPolicy), 0o600)
}
