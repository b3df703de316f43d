package private_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/private"
)

func TestLook(t *testing.T) {
	for _, tc := range []struct {
		mode  os.FileMode
		wrong string
		grave bool
	}{
		{0o400, "", false},
		{0o600, "", false},
		{0o640, "", false}, // a group of the orchestrator's
		{0o644, "is open to other users", false},
		{0o604, "is open to other users", false},
		{0o660, "is open to other users", false},
		{0o602, "can be written by every user", true},
		{0o666, "can be written by every user", true},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chmod(path, tc.mode))
		wrong, grave := private.Look(path)
		assert.Equal(t, tc.grave, grave, "%o", tc.mode)
		if tc.wrong == "" {
			assert.Empty(t, wrong, "%o", tc.mode)
		} else {
			assert.Contains(t, wrong, tc.wrong, "%o", tc.mode)
			assert.Contains(t, wrong, path)
		}
		link := path + "-link" // as Kubernetes mounts secrets
		require.NoError(t, os.Symlink(path, link))
		_, linked := private.Look(link)
		assert.Equal(t, tc.grave, linked, "%o", tc.mode)
	}
	wrong, grave := private.Look(filepath.Join(t.TempDir(), "absent"))
	assert.Empty(t, wrong)
	assert.False(t, grave)
}
