package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// names lists what is in an archive, in its order.
func names(t testing.TB, archive []byte) (names []string) {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	unpacked := tar.NewReader(zipped)
	for {
		h, err := unpacked.Next()
		if err == io.EOF {
			return names
		}
		require.NoError(t, err)
		assert.True(t, h.ModTime.IsZero() || h.ModTime.Unix() == 0, "%s: when it was made is no part of it", h.Name)
		names = append(names, h.Name)
	}
}

func read(t testing.TB, files map[string]string) *Bundle {
	t.Helper()
	b, err := Read(t.Context(), folder(t, files), nil)
	require.NoError(t, err)
	return b
}

func TestBuild(t *testing.T) {
	files := small()
	files["README.md"], files[".git/config"], files["x/notes.json"], files["capabilities.json"] = "notes", "x", "{}", "{}"
	b, err := Build(t.Context(), read(t, files), "")
	require.NoError(t, err)
	assert.Equal(t, []string{".manifest", "capabilities.json", "patrol/data.json", "x/x.rego", "x/x_test.rego"}, names(t, b.Archive))
	assert.Equal(t, "r1", b.Revision())
	assert.Equal(t, small()[".manifest"], string(b.Files[".manifest"]), "as it was")

	again, err := Build(t.Context(), read(t, files), "")
	require.NoError(t, err)
	assert.Equal(t, b.Archive, again.Archive, "the same files are the same archive")
	fromArchive, err := Build(t.Context(), b, "")
	require.NoError(t, err)
	assert.Equal(t, b.Archive, fromArchive.Archive)

	named, err := Build(t.Context(), b, `v"2`)
	require.NoError(t, err)
	assert.Equal(t, `v"2`, named.Revision())
	var manifest map[string]any
	require.NoError(t, json.Unmarshal(named.Files[".manifest"], &manifest))
	assert.Equal(t, map[string]any{"revision": `v"2`, "roots": []any{"patrol"}}, manifest)
	assert.Equal(t, "r1", b.Revision(), "what it was built from has not changed")

	for name, manifest := range map[string]string{"": "the bundle has none", "[]": "cannot unmarshal", "null": "must be an object", "{": "unexpected end"} {
		_, err := Build(t.Context(), read(t, changed(small(), ".manifest", name)), "v3")
		var bad *BadBundleError
		require.ErrorAs(t, err, &bad, name)
		assert.ErrorContains(t, err, manifest)
	}
}

// TestSignersAndVerifiersAgree holds that what is signed here is taken here, with each
// algorithm, as archive and as folder, and that a second signature takes the place of the first.
func TestSignersAndVerifiersAgree(t *testing.T) {
	one, two := rsaPairs()[0], rsaPairs()[1]
	rsaKey, ok := parsed(t, one).(*rsa.PrivateKey)
	require.True(t, ok)
	pkcs1, sec1 := one, ecdsaPair(t, "ES256", elliptic.P256())
	pkcs1.private = inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))
	ecKey, ok := parsed(t, sec1).(*ecdsa.PrivateKey)
	require.True(t, ok)
	der, err := x509.MarshalECPrivateKey(ecKey)
	require.NoError(t, err)
	sec1.private = inPEM("EC PRIVATE KEY", der)
	for name, c := range map[string]struct {
		key    pair
		scope  string
		repeat bool // the same files have the same signature
	}{
		"RS256":         {key: one, repeat: true},
		"RS384":         {key: one.with("RS384"), repeat: true},
		"RS512":         {key: one.with("RS512"), repeat: true},
		"PS256":         {key: one.with("PS256")},
		"RSA, PKCS #1":  {key: pkcs1, repeat: true},
		"ES256, SEC 1":  {key: sec1},
		"ES384":         {key: ecdsaPair(t, "ES384", elliptic.P384())},
		"ES512":         {key: ecdsaPair(t, "ES512", elliptic.P521())},
		"HS256":         {key: secret, repeat: true},
		"HS256, long":   {key: pair{"HS256", strings.Repeat("long/", 200), strings.Repeat("long/", 200)}, repeat: true},
		"for one scope": {key: one, scope: "production", repeat: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewSigner(Key{ID: "release", Algorithm: c.key.algorithm, Secret: c.key.private}, c.scope)
			require.NoError(t, err)
			v := verifier(t, c.scope, c.key.key("release"), two.key("next"))
			plain, err := Build(t.Context(), read(t, small()), "v1")
			require.NoError(t, err)
			b, err := s.SignArchive(t.Context(), "p.tar.gz", plain.Archive)
			require.NoError(t, err)
			again, err := s.SignArchive(t.Context(), "p.tar.gz", b.Archive)
			require.NoError(t, err)
			assert.Equal(t, c.repeat, bytes.Equal(b.Archive, again.Archive))
			for _, archive := range [][]byte{b.Archive, again.Archive} {
				taken, err := Unpack(t.Context(), "p.tar.gz", archive, v)
				require.NoError(t, err)
				assert.Equal(t, "release", taken.SignedBy)
				assert.Equal(t, plain.Files, taken.Files)
			}

			files := small()
			files["README.md"], files[".regal/config.yaml"], files[SignaturesFile] = "notes", "x", "old"
			dir := folder(t, files)
			_, signature, err := s.SignFolder(t.Context(), dir)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, SignaturesFile), signature, 0o600))
			taken, err := Read(t.Context(), dir, v)
			require.NoError(t, err)
			assert.Equal(t, "release", taken.SignedBy)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), []byte("other notes"), 0o600))
			_, err = Read(t.Context(), dir, v)
			require.ErrorContains(t, err, "README.md: digest mismatch")

			_, err = Unpack(t.Context(), "p.tar.gz", b.Archive, verifier(t, c.scope+"other", c.key.key("release")))
			require.ErrorContains(t, err, "scope mismatch")
		})
	}
}

func TestSignersRefuseKeys(t *testing.T) {
	one := rsaPairs()[0]
	weak, err := rsa.GenerateKey(rand.Reader, 1024) // refused
	require.NoError(t, err)
	for name, c := range map[string]struct {
		key  Key
		want string
	}{
		"no id":                   {Key{"", "RS256", one.private}, "must have an id"},
		"a public key":            {Key{"k", "RS256", one.public}, "key k: it is a public key: who signs needs the private one"},
		"no PEM":                  {Key{"k", "RS256", "x"}, "key k: it is not a private key in PEM"},
		"encrypted":               {Key{"k", "RS256", inPEM("ENCRYPTED PRIVATE KEY", []byte("x"))}, "it is encrypted"},
		"something else":          {Key{"k", "RS256", inPEM("SSH PRIVATE KEY", []byte("x"))}, `not a private key but a "SSH PRIVATE KEY"`},
		"garbage":                 {Key{"k", "RS256", inPEM("PRIVATE KEY", []byte("x"))}, "read a private key"},
		"another algorithm":       {Key{"k", "ES256", one.private}, "an RSA key is for RS256"},
		"no algorithm":            {Key{"k", "none", one.private}, `there is no algorithm "none"`},
		"a weak key":              {Key{"k", "RS256", pairOf("RS256", weak).private}, "at least 2048 bits"},
		"a short secret":          {Key{"k", "HS256", "short"}, "at least 32 bytes"},
		"a private key as secret": {Key{"k", "HS256", one.private}, "HS256 takes a shared secret"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSigner(c.key, "")
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), one.private[40:80])
		})
	}
}

// TestWhatIsNoPartOfAPolicyMayBeMissing holds that a signature may be about more than is
// read, and never about less.
func TestWhatIsNoPartOfAPolicyMayBeMissing(t *testing.T) {
	key := rsaPairs()[0]
	s, err := NewSigner(Key{ID: "release", Algorithm: key.algorithm, Secret: key.private}, "")
	require.NoError(t, err)
	all := map[string][]byte{"README.md": []byte("x"), ".x/rules.rego": []byte("package patrol.x"), ".regal/config.yaml": []byte("x")}
	for name, content := range small() {
		all[name] = []byte(content)
	}
	signature, err := s.Sign(all)
	require.NoError(t, err)
	all[SignaturesFile] = signature
	for missing, taken := range map[string]bool{
		"README.md": true, ".regal/config.yaml": true, ".x/rules.rego": false, ".manifest": false, "x/x.rego": false, "x/x_test.rego": false, "patrol/data.json": false,
	} {
		rest := maps.Clone(all)
		delete(rest, missing)
		_, err := s.self.Verify(rest)
		if taken {
			require.NoError(t, err, missing)
		} else {
			require.ErrorContains(t, err, "files that it names are missing: "+missing)
		}
	}
	extra := maps.Clone(all)
	extra["more.md"] = nil
	_, err = s.self.Verify(extra)
	require.ErrorContains(t, err, "file more.md not included")
}

// TestASignedFolderMayHoldLinks holds that a folder with a signature is read as Kubernetes
// mounts one: its files are links into a folder that is itself a link.
func TestASignedFolderMayHoldLinks(t *testing.T) {
	key := rsaPairs()[0]
	files := build(t, key, "release", nil)
	dir := t.TempDir()
	require.NoError(t, os.Rename(folder(t, files), filepath.Join(dir, "..2026")))
	require.NoError(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
	for name := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		up := strings.Repeat("../", strings.Count(name, "/"))
		require.NoError(t, os.Symlink(up+"..data/"+name, filepath.Join(dir, name)))
	}
	b, err := Read(t.Context(), dir, verifier(t, "", key.key("release")))
	require.NoError(t, err)
	assert.Equal(t, "release", b.SignedBy)
	assert.Contains(t, slices.Collect(maps.Keys(b.Files)), "x/x.rego")
}

// passes holds that a bundle would come into force.
func passes(t testing.TB, src engine.Source) *workbench.Report {
	t.Helper()
	report, err := workbench.Check(t.Context(), src, workbench.CheckOptions{MinCoverage: 100, Options: []engine.Option{engine.WithTimeout(checkTimeout)}})
	require.NoError(t, err)
	require.NoError(t, report.Err())
	return report
}
