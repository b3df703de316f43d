package models_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"patrol/models"
)

// The text of limits is read again as it was, and no other text is.
func TestDomainLimitsInWords(t *testing.T) {
	for _, lifetime := range []time.Duration{0, time.Second, 90 * time.Second, 36 * time.Hour, 30 * 24 * time.Hour} {
		for _, no := range []bool{false, true} {
			for _, approval := range []bool{false, true} {
				l := models.DomainLimits{MaxLifetime: lifetime, NoWildcards: no, Approval: approval}
				read, ok := models.ParseDomainLimits(l.String())
				assert.True(t, ok, l)
				assert.Equal(t, l, read)
				assert.Equal(t, l, l.Stricter(models.DomainLimits{}))
			}
		}
	}
	for _, text := range []string{"", "at most", "at most soon", "approval,", "none, approval", "no Mondays"} {
		_, ok := models.ParseDomainLimits(text)
		assert.False(t, ok, text)
	}
}
