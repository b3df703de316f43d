package models_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func TestOneTimeCode(t *testing.T) {
	code, err := models.NewOneTimeCode(rand.Reader)
	require.NoError(t, err)
	text := code.Reveal()
	require.Regexp(t, "^([A-Z2-7]{5}-){3}[A-Z2-7]{5}$", text)
	for _, typed := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), " " + strings.ReplaceAll(text, "-", " ") + "\r\n"} {
		assert.Equal(t, code.Hash(), models.ReadOneTimeCode(typed).Hash(), "%q", typed)
	}
	other, err := models.NewOneTimeCode(rand.Reader)
	require.NoError(t, err)
	for _, wrong := range []string{"", text[1:], text + "A", "é", other.Reveal()} {
		assert.NotEqual(t, code.Hash(), models.ReadOneTimeCode(wrong).Hash(), "%q", wrong)
	}
	assert.NotContains(t, code.Hash(), strings.ToLower(text[:5]))

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "code", code)
	for _, shown := range []string{fmt.Sprint(code), fmt.Sprintf("%v %+v %#v %s %q", code, code, code, code, code), log.String()} {
		assert.NotContains(t, shown, text[:5])
	}
	_, err = json.Marshal(code)
	require.Error(t, err)
	_, err = models.NewOneTimeCode(bytes.NewReader([]byte("short")))
	require.Error(t, err)
}
