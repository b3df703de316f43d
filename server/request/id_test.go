package request_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/server/request"
)

func TestRequestIDsOfClients(t *testing.T) {
	for id, ok := range map[string]bool{
		"0191f3c2-6a7e-7d44-9d1b-2a1f0c9e5b11": true,
		"abcdefgh":                             true,
		"short":                                false,
		"":                                     false,
		"has space in it":                      false,
		"line\nbreak":                          false,
		"patrol_aaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb":    false,
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": false,
	} {
		assert.Equal(t, ok, request.ValidID(id), "%q", id)
	}
}
