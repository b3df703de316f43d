package bundles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// SignaturesFile is the file with a bundle's signature, under OPA's name for it.
const SignaturesFile = ".signatures.json"

// Key is a key that bundles may be signed with.
type Key struct {
	ID        string
	Algorithm string // RS256, ES256 and their relatives, or HS256
	Secret    string // the public key in PEM, or with HS256 the shared secret
}

// algorithmShared is the algorithm of shared secrets.
const algorithmShared = "HS256"

// minSecret is the least length of a shared secret, which is that of the hash
// (RFC 7518 §3.2).
const minSecret = 32

// ReadKey reads a key that is written id:algorithm:path, where the path is of a
// file with the public key in PEM, or with HS256 the shared secret.
func ReadKey(text string) (Key, error) {
	id, rest, _ := strings.Cut(text, ":")
	algorithm, path, ok := strings.Cut(rest, ":")
	if !ok || id == "" || path == "" {
		return Key{}, fmt.Errorf("%q is not of the form id:algorithm:path", text)
	}
	content, err := os.ReadFile(path) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return Key{}, fmt.Errorf("read key %s: %w", id, err)
	}
	return Key{ID: id, Algorithm: algorithm, Secret: string(content)}, nil
}

func (k Key) check() error {
	block, _ := pem.Decode([]byte(k.Secret))
	switch k.Algorithm {
	case "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512":
	case algorithmShared:
		if block != nil { // whoever has a public key could sign with it
			return errors.New("HS256 takes a shared secret, and this is a key in PEM")
		}
		if len(strings.TrimSpace(k.Secret)) < minSecret {
			return fmt.Errorf("a shared secret must have at least %d bytes", minSecret)
		}
		return nil
	default:
		return fmt.Errorf("there is no algorithm %q for it", k.Algorithm)
	}
	if block == nil {
		return errors.New("it is not a public key in PEM")
	}
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return errors.New("it is a private key: who verifies needs the public one, and nobody else should have this")
	}
	var public any
	var err error
	switch block.Type {
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	default:
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return fmt.Errorf("read a public key: %w", err)
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if k.Algorithm != "RS256" && k.Algorithm != "RS384" && k.Algorithm != "RS512" && k.Algorithm != "PS256" {
			return fmt.Errorf("an RSA key is for RS256, RS384, RS512 or PS256, not %q", k.Algorithm)
		}
		if public.Size() < 2048/8 {
			return errors.New("an RSA key must have at least 2048 bits")
		}
	case *ecdsa.PublicKey:
		want := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
		if curve, ok := want[k.Algorithm]; !ok || curve != public.Curve {
			return fmt.Errorf("a key on the curve %s is not for %q", public.Curve.Params().Name, k.Algorithm)
		}
	case ed25519.PublicKey:
		return errors.New("OPA signs bundles with RSA and ECDSA keys and shared secrets, not with Ed25519")
	default:
		return fmt.Errorf("keys of type %T are not supported", public)
	}
	return nil
}

// Verifier holds bundles against the signatures that `opa build --signing-key` and
// `opa sign` make.
type Verifier struct {
	keys  map[string]*bundle.KeyConfig
	scope string
}

// NewVerifier returns a verifier of bundles that are signed with one of the keys
// for a scope, which is "" unless one was given when they were signed.
func NewVerifier(keys []Key, scope string) (*Verifier, error) {
	v := &Verifier{keys: map[string]*bundle.KeyConfig{}, scope: scope}
	for _, k := range keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		if _, twice := v.keys[k.ID]; twice {
			return nil, fmt.Errorf("there are two keys with the id %s", k.ID)
		}
		v.keys[k.ID] = &bundle.KeyConfig{Key: k.Secret, Algorithm: k.Algorithm}
	}
	if len(v.keys) == 0 {
		return nil, errors.New("there is no key to verify policies with")
	}
	return v, nil
}

// hashes are those that a signature may name. OPA knows MD5 and SHA-1 as well.
var hashes = []string{
	string(bundle.SHA224), string(bundle.SHA256), string(bundle.SHA384), string(bundle.SHA512), string(bundle.SHA512224), string(bundle.SHA512256),
}

// Verify holds the files of a bundle, all of them, against the signature among
// them, and returns the id of the key. The signature must name its key and the key
// must be known by that name; the algorithm is the key's, whatever the signature says;
// every file must be in the signature as it is, and none of a policy be missing.
func (v *Verifier) Verify(files map[string][]byte) (keyID string, err error) {
	content, ok := files[SignaturesFile]
	if !ok {
		return "", fmt.Errorf("it is not signed: it has no %s, and this server takes only policies signed with one of its keys (%s)", SignaturesFile, v.keyIDs())
	}
	var signatures bundle.SignaturesConfig
	if err := json.Unmarshal(content, &signatures); err != nil {
		return "", fmt.Errorf("%s: %w", SignaturesFile, err)
	}
	if len(signatures.Signatures) != 1 || signatures.Plugin != "" && signatures.Plugin != "_default" {
		return "", fmt.Errorf("%s: it must hold exactly one signature, of OPA's own kind", SignaturesFile)
	}
	if keyID, err = v.keyOf(signatures.Signatures[0]); err != nil {
		return "", fmt.Errorf("%s: %w", SignaturesFile, err)
	}
	signed, err := bundle.VerifyBundleSignature(signatures, bundle.NewVerificationConfig(v.keys, keyID, v.scope, nil))
	if err != nil {
		return "", fmt.Errorf("%s: the signature by key %s is not good: %w", SignaturesFile, keyID, err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if bundle.IsSignaturesFile(name) && name == SignaturesFile {
			continue
		}
		if info, ok := signed[name]; ok && !slices.Contains(hashes, info.Algorithm) {
			return "", fmt.Errorf("%s: %s is hashed with %q, which is not strong enough", SignaturesFile, name, info.Algorithm)
		}
		if err := bundle.VerifyBundleFile(name, *bytes.NewBuffer(files[name]), signed); err != nil {
			return "", fmt.Errorf("%s: the signature is of something else: %w", SignaturesFile, err)
		}
	}
	// What is no part of a policy may be missing: folders are read without those of their folders
	// whose names start with a dot, which `opa sign` signs as well.
	maps.DeleteFunc(signed, func(name string, _ bundle.FileInfo) bool { return !wanted(name) })
	if len(signed) > 0 {
		return "", fmt.Errorf("%s: files that it names are missing: %s", SignaturesFile, strings.Join(slices.Sorted(maps.Keys(signed)), ", "))
	}
	return keyID, nil
}

// keyOf returns the id of the key that a signature names, in its header or, as OPA
// has it too, in its payload. It says nothing about who made it.
func (v *Verifier) keyOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("it holds no JSON Web Token")
	}
	var header struct {
		Kid string `json:"kid"`
		Alg string `json:"alg"`
	}
	var payload struct {
		KeyID string `json:"keyid"`
	}
	for i, to := range []any{&header, &payload} {
		part, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return "", errors.New("it holds no JSON Web Token")
		}
		if err := json.Unmarshal(part, to); err != nil {
			return "", errors.New("it holds no JSON Web Token")
		}
	}
	if header.Kid != "" && payload.KeyID != "" && header.Kid != payload.KeyID {
		return "", fmt.Errorf("the signature names two keys, %q and %q", header.Kid, payload.KeyID)
	}
	id := header.Kid
	if id == "" {
		id = payload.KeyID
	}
	key, ok := v.keys[id]
	switch {
	case id == "":
		return "", errors.New("the signature names no key: sign with `patrol policy sign --key-id`, `opa build --verification-key-id`, or, with `opa sign`, a claims file that has a keyid")
	case !ok:
		return "", fmt.Errorf("the signature is by key %q, which is not one of this server's (%s)", id, v.keyIDs())
	case header.Alg != key.Algorithm:
		return "", fmt.Errorf("the signature is made with %q, and key %s is for %s", header.Alg, id, key.Algorithm)
	}
	return id, nil
}

func (v *Verifier) keyIDs() string { return strings.Join(slices.Sorted(maps.Keys(v.keys)), ", ") }
