package bundles

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pair is a key to sign with and the one to verify with.
type pair struct{ algorithm, private, public string }

var secret = pair{"HS256", strings.Repeat("shared", 8), strings.Repeat("shared", 8)}

// rsaPairs are expensive to make.
var rsaPairs = sync.OnceValue(func() (pairs [2]pair) {
	for i := range pairs {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		pairs[i] = pairOf("RS256", key)
	}
	return pairs
})

func pairOf(algorithm string, key crypto.Signer) pair {
	private, err1 := x509.MarshalPKCS8PrivateKey(key)
	public, err2 := x509.MarshalPKIXPublicKey(key.Public())
	if err1 != nil || err2 != nil {
		panic("marshal a key that was just made")
	}
	return pair{algorithm, inPEM("PRIVATE KEY", private), inPEM("PUBLIC KEY", public)}
}

func inPEM(kind string, content []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

func ecdsaPair(t testing.TB, algorithm string, curve elliptic.Curve) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return pairOf(algorithm, key)
}

func (p pair) with(algorithm string) pair {
	p.algorithm = algorithm
	return p
}

// small are the files of a policy that is quick to sign.
func small() map[string]string {
	return map[string]string{
		".manifest":        `{"revision": "r1", "roots": ["patrol"]}`,
		"x/x.rego":         "package patrol.x\n\np := data.patrol.list\n",
		"x/x_test.rego":    "package patrol.x_test\n\ntest_p if data.patrol.x.p\n",
		"patrol/data.json": `{"list": [1, 2]}`,
	}
}

func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
	}
	return dir
}

// build does what `opa build -b --signing-key` does, and returns the files that are
// in the archive then.
func build(t testing.TB, key pair, id string, claims map[string]any) map[string]string {
	t.Helper()
	claimsFile := ""
	if claims != nil {
		content, err := json.Marshal(claims)
		require.NoError(t, err)
		claimsFile = filepath.Join(t.TempDir(), "claims.json")
		require.NoError(t, os.WriteFile(claimsFile, content, 0o600))
	}
	var out bytes.Buffer
	require.NoError(t, compile.New().
		WithAsBundle(true).WithFS(os.DirFS(folder(t, small()))).WithPaths(".").WithOutput(&out).
		WithBundleSigningConfig(bundle.NewSigningConfig(key.private, key.algorithm, claimsFile)).
		WithBundleVerificationKeyID(id).
		Build(t.Context()))
	f, err := readArchive(t.Context(), "built", &out)
	require.NoError(t, err)
	files := map[string]string{}
	for name, content := range f.source.Files {
		files[name] = string(content)
	}
	for name, content := range f.rest {
		files[name] = string(content)
	}
	return files
}

// sign makes a signature of OPA's own over files as they are, with a hash of one's
// choice.
func sign(t testing.TB, files map[string]string, key pair, id string, hashed bundle.HashingAlgorithm) map[string]string {
	t.Helper()
	hasher, err := bundle.NewSignatureHasher(hashed)
	require.NoError(t, err)
	var infos []bundle.FileInfo
	for name, content := range files {
		var value any = []byte(content)
		if bundle.IsStructuredDoc(name) {
			require.NoError(t, json.Unmarshal([]byte(content), &value))
		}
		sum, err := hasher.HashFile(value)
		require.NoError(t, err)
		infos = append(infos, bundle.NewFile(name, hex.EncodeToString(sum), string(hashed)))
	}
	token, err := bundle.GenerateSignedToken(infos, bundle.NewSigningConfig(key.private, key.algorithm, ""), id)
	require.NoError(t, err)
	return withSignatures(t, files, token)
}

func withSignatures(t testing.TB, files map[string]string, tokens ...string) map[string]string {
	t.Helper()
	content, err := json.Marshal(bundle.SignaturesConfig{Signatures: tokens})
	require.NoError(t, err)
	files = maps.Clone(files)
	files[SignaturesFile] = string(content)
	return files
}

func tokenOf(t testing.TB, files map[string]string) string {
	t.Helper()
	var c bundle.SignaturesConfig
	require.NoError(t, json.Unmarshal([]byte(files[SignaturesFile]), &c))
	require.Len(t, c.Signatures, 1)
	return c.Signatures[0]
}

// changed is files with name replaced; "" takes it away.
func changed(files map[string]string, name, content string) map[string]string {
	files = maps.Clone(files)
	files[name] = content
	if content == "" {
		delete(files, name)
	}
	return files
}

func packed(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, entry{name: name, body: files[name]})
	}
	return archive(t, entries...)
}

func verifier(t testing.TB, scope string, keys ...Key) *Verifier {
	t.Helper()
	v, err := NewVerifier(keys, scope)
	require.NoError(t, err)
	return v
}

func (p pair) key(id string) Key { return Key{ID: id, Algorithm: p.algorithm, Secret: p.public} }

// TestSignatures holds that what OPA signs is taken: as an archive, and as a folder.
func TestSignatures(t *testing.T) {
	one := rsaPairs()[0]
	rsaKey := parsed(t, one).(*rsa.PrivateKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, rsaKey.Public(), rsaKey)
	require.NoError(t, err)
	pkcs1, inCertificate := one, one
	pkcs1.public = inPEM("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey))
	inCertificate.public = inPEM("CERTIFICATE", certificate)

	for name, c := range map[string]struct {
		key    pair
		claims map[string]any
		scope  string
	}{
		"RS256":                {key: one},
		"RS512":                {key: one.with("RS512")},
		"PS256":                {key: one.with("PS256")},
		"RS256, PKCS #1":       {key: pkcs1},
		"RS256, a certificate": {key: inCertificate},
		"ES256":                {key: ecdsaPair(t, "ES256", elliptic.P256())},
		"ES384":                {key: ecdsaPair(t, "ES384", elliptic.P384())},
		"HS256":                {key: secret},
		"for a scope":          {key: one, claims: map[string]any{"scope": "write"}, scope: "write"},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier(t, c.scope, rsaPairs()[1].key("next"), c.key.key("release"))
			files := build(t, c.key, "release", c.claims)
			b, err := Unpack(t.Context(), "p.tar.gz", packed(t, files), v)
			require.NoError(t, err)
			assert.Equal(t, "release", b.SignedBy)
			assert.Equal(t, "r1", b.Revision())

			b, err = Read(t.Context(), folder(t, files), v)
			require.NoError(t, err)
			assert.Equal(t, "release", b.SignedBy)
			again, err := Unpack(t.Context(), "kept", b.Archive, v)
			require.NoError(t, err, "what is made of a folder is as well signed")
			assert.Equal(t, b.Files, again.Files)
		})
	}
}

func parsed(t testing.TB, p pair) any {
	t.Helper()
	block, _ := pem.Decode([]byte(p.private))
	require.NotNil(t, block)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return key
}

// TestSignaturesRefused holds that whatever is not signed as it is, by the key that
// it says, is refused with the reason.
func TestSignaturesRefused(t *testing.T) {
	key, other := rsaPairs()[0], rsaPairs()[1]
	good := build(t, key, "release", nil)
	require.Contains(t, good, "x/x.rego")
	require.Contains(t, good, "x/x_test.rego")
	parts := strings.Split(tokenOf(t, good), ".")
	require.Len(t, parts, 3)
	unsigned := func(header string) map[string]string {
		return withSignatures(t, good, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+parts[1]+".")
	}
	confused := key.with("HS256")
	confused.private = key.public

	for name, c := range map[string]struct {
		files map[string]string
		scope string
		want  string
	}{
		"not signed":                {files: changed(good, SignaturesFile, ""), want: "it is not signed: it has no .signatures.json, and this server takes only policies signed with one of its keys (release, shared)"},
		"another key":               {files: build(t, other, "release", nil), want: "the signature by key release is not good"},
		"another key's id":          {files: build(t, key, "old", nil), want: `the signature is by key "old", which is not one of this server's (release, shared)`},
		"a key for another one's":   {files: build(t, secret, "release", nil), want: `the signature is made with "HS256", and key release is for RS256`},
		"the public key as secret":  {files: build(t, confused, "release", nil), want: `the signature is made with "HS256", and key release is for RS256`},
		"another algorithm":         {files: build(t, key.with("RS384"), "release", nil), want: `the signature is made with "RS384", and key release is for RS256`},
		"no algorithm":              {files: unsigned(`{"alg": "none", "kid": "release"}`), want: `the signature is made with "none", and key release is for RS256`},
		"an algorithm of nobody's":  {files: unsigned(`{"alg": "XX256", "kid": "release"}`), want: `the signature is made with "XX256"`},
		"an empty signature":        {files: unsigned(`{"alg": "RS256", "kid": "release"}`), want: "the signature by key release is not good"},
		"no key id":                 {files: sign(t, small(), key, "", bundle.SHA256), want: "the signature names no key"},
		"two key ids":               {files: build(t, key, "release", map[string]any{"keyid": "shared"}), want: `the signature names two keys, "release" and "shared"`},
		"a scope that is not asked": {files: build(t, key, "release", map[string]any{"scope": "write"}), want: "scope mismatch"},
		"no scope":                  {files: good, scope: "write", want: "scope mismatch"},
		"another scope":             {files: build(t, key, "release", map[string]any{"scope": "read"}), scope: "write", want: "scope mismatch"},
		"a weak hash":               {files: sign(t, small(), key, "release", bundle.MD5), want: `is hashed with "MD5", which is not strong enough`},
		"a module changed":          {files: changed(good, "x/x.rego", "package patrol.x\n\np := true\n"), want: "x/x.rego: digest mismatch"},
		"a test changed":            {files: changed(good, "x/x_test.rego", "package patrol.x_test\n\ntest_p if true\n"), want: "x/x_test.rego: digest mismatch"},
		"data changed":              {files: changed(good, "data.json", `{"patrol": {"list": [1]}}`), want: "data.json: digest mismatch"},
		"the manifest changed":      {files: changed(good, ".manifest", `{"revision": "r2", "roots": ["patrol"]}`), want: ".manifest: digest mismatch"},
		"a module added":            {files: changed(good, "y.rego", "package patrol.y"), want: "file y.rego not included in bundle signature"},
		"capabilities added":        {files: changed(good, "capabilities.json", "{}"), want: "file capabilities.json not included"},
		"notes added":               {files: changed(good, "notes.txt", "x"), want: "file notes.txt not included"},
		"another signature inside":  {files: changed(good, "x/.signatures.json", "{}"), want: "file x/.signatures.json not included"},
		"a module taken away":       {files: changed(good, "x/x.rego", ""), want: "files that it names are missing: x/x.rego"},
		"the tests taken away":      {files: changed(good, "x/x_test.rego", ""), want: "files that it names are missing: x/x_test.rego"},
		"two signatures":            {files: withSignatures(t, good, tokenOf(t, good), tokenOf(t, good)), want: "exactly one signature"},
		"no signature in the file":  {files: withSignatures(t, good), want: "exactly one signature"},
		"a plugin's signature":      {files: changed(good, SignaturesFile, `{"plugin": "mine", "signatures": ["`+tokenOf(t, good)+`"]}`), want: "of OPA's own kind"},
		"no token":                  {files: withSignatures(t, good, "abc"), want: "it holds no JSON Web Token"},
		"no base64":                 {files: withSignatures(t, good, "?."+parts[1]+"."+parts[2]), want: "it holds no JSON Web Token"},
		"no JSON":                   {files: changed(good, SignaturesFile, "signed, really"), want: ".signatures.json: "},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier(t, c.scope, key.key("release"), secret.key("shared"))
			for kind, read := range map[string]func() (*Bundle, error){
				"archive": func() (*Bundle, error) { return Unpack(t.Context(), "p", packed(t, c.files), v) },
				"folder":  func() (*Bundle, error) { return Read(t.Context(), folder(t, c.files), v) },
			} {
				b, err := read()
				var bad *BadBundleError
				require.ErrorAs(t, err, &bad, kind)
				assert.Nil(t, b, kind)
				assert.True(t, bad.Signature, kind)
				assert.ErrorContains(t, err, c.want, kind)
			}
		})
	}
}

// TestKeys holds that a key which could not keep its promise is refused before
// anything is verified with it.
func TestKeys(t *testing.T) {
	good := rsaPairs()[0]
	weak, err := rsa.GenerateKey(rand.Reader, 1024) // refused
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		keys []Key
		want string
	}{
		"none":                       {nil, "there is no key to verify policies with"},
		"one id twice":               {[]Key{good.key("k"), secret.key("k")}, "there are two keys with the id k"},
		"a private key":              {[]Key{{ID: "k", Algorithm: "RS256", Secret: good.private}}, "key k: it is a private key"},
		"a public key as the secret": {[]Key{{ID: "k", Algorithm: "HS256", Secret: good.public}}, "key k: HS256 takes a shared secret, and this is a key in PEM"},
		"a short secret":             {[]Key{{ID: "k", Algorithm: "HS256", Secret: strings.Repeat("x", 31) + "\n\n"}}, "at least 32 bytes"},
		"no algorithm there is":      {[]Key{{ID: "k", Algorithm: "none", Secret: secret.public}}, `key k: there is no algorithm "none" for it`},
		"an algorithm not taken":     {[]Key{{ID: "k", Algorithm: "HS512", Secret: secret.public}}, `key k: there is no algorithm "HS512" for it`},
		"an RSA key for a curve":     {[]Key{good.with("ES256").key("k")}, "an RSA key is for RS256"},
		"a curve's key for RSA":      {[]Key{ecdsaPair(t, "RS256", elliptic.P256()).key("k")}, `a key on the curve P-256 is not for "RS256"`},
		"another curve":              {[]Key{ecdsaPair(t, "ES384", elliptic.P256()).key("k")}, `a key on the curve P-256 is not for "ES384"`},
		"a weak RSA key":             {[]Key{pairOf("RS256", weak).key("k")}, "at least 2048 bits"},
		"Ed25519":                    {[]Key{pairOf("RS256", edwards).key("k")}, "not with Ed25519"},
		"no PEM":                     {[]Key{{ID: "k", Algorithm: "RS256", Secret: "ssh-rsa AAAA"}}, "it is not a public key in PEM"},
		"no key in the PEM":          {[]Key{{ID: "k", Algorithm: "RS256", Secret: inPEM("PUBLIC KEY", []byte("x"))}}, "read a public key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewVerifier(c.keys, "")
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), secret.public)
		})
	}
}

func TestReadKey(t *testing.T) {
	file := filepath.Join(folder(t, map[string]string{"a:b.pem": rsaPairs()[0].public}), "a:b.pem")
	k, err := ReadKey("release:RS256:" + file)
	require.NoError(t, err)
	assert.Equal(t, rsaPairs()[0].key("release"), k)
	for text, want := range map[string]string{
		"release":                "not of the form id:algorithm:path",
		"release:RS256":          "not of the form id:algorithm:path",
		"release:RS256:":         "not of the form id:algorithm:path",
		":RS256:" + file:         "not of the form id:algorithm:path",
		"release:RS256:/nowhere": "read key release",
	} {
		_, err := ReadKey(text)
		assert.ErrorContains(t, err, want, text)
	}
}
