package bundles

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// Signer signs bundles as `opa build --signing-key` does, so that a [Verifier] takes
// them, and OPA too.
type Signer struct {
	id, algorithm, scope string
	key                  any // crypto.Signer, or with HS256 []byte
	self                 *Verifier
}

// NewSigner returns a signer for a scope, which is "" unless servers ask for one. k's
// Secret is the private key in PEM, or with HS256 the shared secret. A key that no
// Verifier would take is an error.
func NewSigner(k Key, scope string) (*Signer, error) {
	s := &Signer{id: k.ID, algorithm: k.Algorithm, scope: scope, key: []byte(k.Secret)}
	if k.ID == "" {
		return nil, errors.New("the key to sign with must have an id, by which servers know it")
	}
	public := k
	if k.Algorithm != algorithmShared {
		private, err := readPrivateKey(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		s.key = private
		public.Secret = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	var err error
	s.self, err = NewVerifier([]Key{public}, scope)
	return s, err
}

func readPrivateKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not a private key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("it is encrypted: decrypt it first, such as with `openssl pkey`")
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, errors.New("it is a public key: who signs needs the private one")
	default:
		return nil, fmt.Errorf("it is not a private key but a %.40q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("read a private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("keys of type %T cannot sign", key)
	}
	return signer, nil
}

// Sign returns the content of .signatures.json for the files of a bundle, all of
// them; a signature among them is passed over. With RSA's RS algorithms and HS256 the same files have the
// same signature.
func (s *Signer) Sign(files map[string][]byte) ([]byte, error) {
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign a policy: %w", err)
	}
	payload := struct {
		Files []bundle.FileInfo `json:"files"`
		KeyID string            `json:"keyid"` // besides the header, for old versions of OPA
		Scope string            `json:"scope,omitempty"`
	}{[]bundle.FileInfo{}, s.id, s.scope}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == SignaturesFile {
			continue
		}
		var value any = files[name]
		if bundle.IsStructuredDoc(name) {
			if err := util.Unmarshal(files[name], &value); err != nil {
				return nil, fmt.Errorf("sign %s: %w", name, err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			return nil, fmt.Errorf("sign %s: %w", name, err)
		}
		payload.Files = append(payload.Files, bundle.NewFile(name, hex.EncodeToString(sum), string(bundle.SHA256)))
	}
	header, err1 := json.Marshal(map[string]string{"alg": s.algorithm, "kid": s.id, "typ": "JWT"})
	claims, err2 := json.Marshal(payload)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("sign a policy: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := jwsbb.Sign(s.key, s.algorithm, []byte(token), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("sign a policy with key %s: %w", s.id, err)
	}
	content, err := json.MarshalIndent(bundle.SignaturesConfig{Signatures: []string{token + "." + base64.RawURLEncoding.EncodeToString(signature)}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("sign a policy: %w", err)
	}
	return append(content, '\n'), nil
}
