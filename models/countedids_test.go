package models_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"patrol/models"
)

func TestIDsOfCountedDecisionsAreKnownByTheirKey(t *testing.T) {
	ids, others := models.NewCountedIDs([]byte("key")), models.NewCountedIDs([]byte("another"))
	at := time.Date(2026, 3, 1, 12, 0, 0, int(123*time.Millisecond), time.UTC)
	seen := map[string]bool{}
	for range 1000 {
		id := ids.New(at)
		assert.Len(t, id, models.IDLength)
		assert.False(t, seen[id])
		seen[id] = true
		assert.True(t, ids.Made(id))
		assert.False(t, others.Made(id))
		assert.False(t, ids.Made(models.NewDecisionID(at)))
		made, ok := models.DecisionIDTime(id)
		assert.True(t, ok)
		assert.Equal(t, at, made)
		for i := range len(id) {
			changed := []byte(id)
			changed[i] = "0123456789"[(i+int(id[i]))%10]
			if string(changed) != id {
				assert.False(t, ids.Made(string(changed)), "%s is not %s", changed, id)
			}
		}
	}
	for _, id := range []string{"", "x", "0123456789abcdef0", "0123456789abcde-", "0123456789abcdé"} {
		assert.False(t, ids.Made(id), id)
		_, ok := models.DecisionIDTime(id)
		assert.False(t, ok, id)
	}
	made, ok := models.DecisionIDTime(models.NewDecisionID(at))
	assert.True(t, ok)
	assert.Equal(t, at, made)
}
