package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/secret"
)

// TestNoOutputTells prints a secret in every form.
func TestNoOutputTells(t *testing.T) {
	const plain = "hunter2"
	holder := struct {
		Key  secret.Text            `json:"key"`
		More map[string]secret.Text `json:"more"`
	}{plain, map[string]secret.Text{"x": plain}}
	var logs bytes.Buffer
	slog.New(slog.NewTextHandler(&logs, nil)).Info("set", "key", holder.Key, "holder", holder)
	encoded, err := json.Marshal(holder)
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprint(holder.Key), fmt.Sprintf("%v %+v %#v %s %q", holder, holder, holder, holder.Key, holder.Key), logs.String(), string(encoded),
	} {
		assert.NotContains(t, text, plain)
		assert.Contains(t, text, secret.Mask)
	}
	assert.Equal(t, plain, holder.Key.Reveal())
	assert.Empty(t, secret.Text("").String())
}
