package ui

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryPageRenders(t *testing.T) {
	u, err := New()
	require.NoError(t, err)
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, u.Render(&out, s.frame, s.page))
		})
	}
}
