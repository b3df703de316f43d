package models_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/models"
)

// A fixed token, so that a change of the format cannot go unnoticed. The
// checksum was computed by Python's zlib.crc32.
const (
	vectorID     = "0123456789ABCDEF"
	vectorSecret = "abcdefghijklmnopqrstuvwxyzABCDEF"
	vectorToken  = "patrol_0123456789ABCDEF_abcdefghijklmnopqrstuvwxyzABCDEF1V0fYq"
)

func mint(t testing.TB) models.Token {
	t.Helper()
	token, err := models.Mint(rand.Reader)
	require.NoError(t, err)
	return token
}

func ring(t testing.TB, ids ...string) models.Keyring {
	t.Helper()
	var keys []models.Key
	for _, id := range ids {
		sum := sha256.Sum256([]byte(id))
		keys = append(keys, models.Key{ID: id, Secret: sum[:]})
	}
	r, err := models.NewKeyring(keys...)
	require.NoError(t, err)
	return r
}

func TestTokenFormat(t *testing.T) {
	token := mint(t)
	text := token.Reveal()
	assert.Len(t, text, models.TokenLength)
	assert.Equal(t, 62, models.TokenLength)
	assert.Regexp(t, `^patrol_[0-9A-Za-z]{16}_[0-9A-Za-z]{38}$`, text)
	assert.Equal(t, token.ID, text[7:23])

	parsed, err := models.ParseToken(text)
	require.NoError(t, err)
	assert.Equal(t, text, parsed.Reveal())
}

func TestTokenVector(t *testing.T) {
	token, err := models.ParseToken(vectorToken)
	require.NoError(t, err)
	assert.Equal(t, vectorID, token.ID)
	assert.Equal(t, vectorToken, token.Reveal())

	key := bytes.Repeat([]byte{7}, 32)
	r, err := models.NewKeyring(models.Key{ID: "k1", Secret: key})
	require.NoError(t, err)
	mac, keyID := r.Sum(token)
	want := hmac.New(sha256.New, key)
	want.Write([]byte(vectorID + "_" + vectorSecret))
	assert.Equal(t, want.Sum(nil), mac)
	assert.Equal(t, "k1", keyID)
}

// The checksum as big-number arithmetic has it, apart from the implementation.
func TestChecksumAgainstBigIntegers(t *testing.T) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for range 2000 {
		text := mint(t).Reveal()
		n := new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text[:56]))))
		var want string
		for range 6 {
			var digit big.Int
			n.DivMod(n, big.NewInt(62), &digit)
			want = string(alphabet[digit.Int64()]) + want
		}
		require.Equal(t, want, text[56:])
		require.Zero(t, n.Sign())
	}
}

func TestParseTokenRefuses(t *testing.T) {
	text := vectorToken
	for name, bad := range map[string]string{
		"empty":                 "",
		"a session token":       "patrols_" + text[8:],
		"another prefix":        "github_" + text[7:],
		"upper-case prefix":     "PATROL_" + text[7:],
		"cut":                   text[:61],
		"longer":                text + "a",
		"space before":          " " + text[:61],
		"space inside":          text[:30] + " " + text[31:],
		"separator moved":       text[:22] + "_" + text[22:23] + text[24:],
		"second separator":      text[:40] + "_" + text[41:],
		"a letter beyond ASCII": text[:30] + "é" + text[32:],
		"NUL":                   text[:30] + "\x00" + text[31:],
		"line break":            text[:61] + "\n",
	} {
		_, err := models.ParseToken(bad)
		require.Error(t, err, name)
		assert.Equal(t, models.CodeMalformed, models.CodeOf(err), name)
		assert.NotContains(t, err.Error(), "abcdefgh", "%s: the error shows the token", name)
	}
}

func TestOneFlippedCharacterIsNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(vectorToken)
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		c := rapid.Byte().Draw(t, "char")
		if text[at] == c {
			return
		}
		text[at] = c
		if _, err := models.ParseToken(string(text)); err == nil {
			t.Fatalf("%q passes for a token", text)
		}
	})
}

func TestMintIsEven(t *testing.T) {
	counts := map[rune]int{}
	const draws = 4000
	for range draws {
		text := mint(t).Reveal()
		for _, c := range text[7:23] + text[24:56] {
			counts[c]++
		}
	}
	assert.Len(t, counts, 62)
	mean := float64(draws*48) / 62
	for c, n := range counts {
		// Six standard deviations: a false alarm in a billion characters, while a
		// plain modulo would be off by a quarter.
		assert.InDelta(t, mean, n, 6*56, "character %c", c)
	}
}

func TestMintFailsWithItsSource(t *testing.T) {
	_, err := models.Mint(bytes.NewReader([]byte("short")))
	assert.Error(t, err)
}

func TestSecretsMaskThemselves(t *testing.T) {
	token := mint(t)
	secret := token.Reveal()[24:]
	r, err := models.ParseKeyring("k1:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)))
	require.NoError(t, err)

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token, "keys", r, "in", struct{ T models.Token }{token})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "keys", r, "in", struct{ T models.Token }{token})
	out := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		out += fmt.Sprintf(verb, token) + fmt.Sprintf(verb, &token) + fmt.Sprintf(verb, []models.Token{token}) + fmt.Sprintf(verb, r)
	}
	assert.NotContains(t, out, secret)
	assert.NotContains(t, out, fmt.Sprintf("%x", secret))
	assert.NotContains(t, out, "kkkkkkkk")
	assert.NotContains(t, out, "6b6b6b6b")
	assert.NotContains(t, out, "107, 107")
	assert.NotContains(t, out, "0x6b")

	for _, v := range []any{token, r, map[string]any{"t": token}} {
		_, err := json.Marshal(v)
		assert.Error(t, err)
	}
}

func TestKeyringVerify(t *testing.T) {
	token, other := mint(t), mint(t)
	old, both := ring(t, "old"), ring(t, "new", "old")
	mac, keyID := old.Sum(token)
	assert.True(t, old.Verify(token, keyID, mac))
	assert.True(t, both.Verify(token, keyID, mac), "a ring verifies with every key it holds")
	assert.Equal(t, "new", both.Current())
	assert.Equal(t, []string{"new", "old"}, both.IDs())

	assert.False(t, old.Verify(other, keyID, mac), "another secret")
	assert.False(t, both.Verify(token, "new", mac), "another key")
	assert.False(t, both.Verify(token, "gone", mac), "a key that is not in the ring")
	newMAC, _ := both.Sum(token)
	assert.False(t, both.Verify(token, "gone", newMAC), "an unknown key id never verifies, even if the current key would")
	assert.False(t, both.Verify(token, "", nil), "no record")
	assert.False(t, both.Verify(token, keyID, mac[:31]))
}

func TestParseKeyring(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))
	for _, c := range []struct{ name, text, want string }{
		{"one", "k1:" + good, ""},
		{"two", "k2:" + good + ",k1:" + good, ""},
		{"lines of a file", "k2:" + good + "\r\nk1:" + good + "\n\n", ""},
		{"empty", "", "empty"},
		{"only commas", ",,\n", "empty"},
		{"no id", good, "id:base64"},
		{"bad id", "K 1:" + good, "id:base64"},
		{"not base64", "k1:***", "base64"},
		{"short", "k1:" + base64.StdEncoding.EncodeToString([]byte("short")), "32"},
		{"twice", "k1:" + good + ",k1:" + good, "twice"},
	} {
		r, err := models.ParseKeyring(c.text)
		if c.want == "" {
			require.NoError(t, err, c.name)
			assert.NotEmpty(t, r.Current())
			continue
		}
		require.ErrorContains(t, err, c.want, c.name)
		assert.NotContains(t, err.Error(), good, "%s: the error shows a key", c.name)
		assert.NotContains(t, err.Error(), "c2hvcnQ", "%s: the error shows a key", c.name)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(vectorToken)
	f.Add("")
	f.Add("patrol_")
	f.Add(strings.Repeat("a", 62))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := models.ParseToken(text)
		if err != nil {
			return
		}
		if token.Reveal() != text {
			t.Fatalf("%q comes back as %q", text, token.Reveal())
		}
	})
}

func BenchmarkParseAndVerify(b *testing.B) {
	token := mint(b)
	keys := ring(b, "k1")
	mac, keyID := keys.Sum(token)
	text := token.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		parsed, err := models.ParseToken(text)
		if err != nil || !keys.Verify(parsed, keyID, mac) {
			b.Fatal("the token does not verify")
		}
	}
}

func TestKeyringIsShared(t *testing.T) {
	r, next := ring(t, "k1", "k2"), ring(t, "k2", "k3")
	shared := r
	r.Replace(next)
	assert.Equal(t, []string{"k2", "k3"}, shared.IDs())
	assert.Equal(t, models.KeyUnknown, shared.Status("k1"))
}

func TestArrangeKeyring(t *testing.T) {
	r := ring(t, "k1", "k2", "k3")
	for _, c := range []struct {
		current string
		retired []string
		want    []string
	}{
		{"", nil, []string{"k1", "k2", "k3"}},
		{"k3", nil, []string{"k3", "k1", "k2"}},
		{"k9", nil, []string{"k1", "k2", "k3"}},
		{"k2", []string{"k1"}, []string{"k2", "k3"}},
		{"k1", []string{"k1", "k9"}, []string{"k2", "k3"}},
	} {
		got, err := r.Arrange(c.current, c.retired)
		require.NoError(t, err)
		assert.Equal(t, c.want, got.IDs())
		for _, id := range c.retired {
			assert.Equal(t, models.KeyRetired, got.Status(id))
		}
	}
	_, err := r.Arrange("", []string{"k1", "k2", "k3"})
	require.Error(t, err)
	assert.Equal(t, []string{"k1", "k2", "k3"}, r.IDs(), "it is another ring")
}

func TestKeyCheckValue(t *testing.T) {
	a, err := models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte("a"), 32)})
	require.NoError(t, err)
	same, err := models.NewKeyring(models.Key{ID: "other", Secret: bytes.Repeat([]byte("a"), 32)})
	require.NoError(t, err)
	b, err := models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte("b"), 32)})
	require.NoError(t, err)
	assert.Len(t, a.Check("k1"), 16)
	assert.Equal(t, a.Check("k1"), same.Check("other"))
	assert.NotEqual(t, a.Check("k1"), b.Check("k1"))
	assert.Empty(t, a.Check("k2"))
}
