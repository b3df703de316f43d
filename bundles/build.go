package bundles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// manifestFile is the file with a bundle's revision, under OPA's name for it.
const manifestFile = ".manifest"

// Build makes an archive of a bundle, to be shipped: its policy and its tests, which
// servers ask for, and nothing else, such as notes. The same files make the same
// archive, byte by byte. It is not signed.
//
// revision is the new revision in the manifest; "" leaves that as it is, so that a
// bundle without one is known by its digest.
func Build(ctx context.Context, b *Bundle, revision string) (*Bundle, error) {
	files := maps.Clone(b.Files)
	if revision != "" {
		var err error
		if files[manifestFile], err = withRevision(b.Files[manifestFile], revision); err != nil {
			return nil, &BadBundleError{Name: b.Name, Err: fmt.Errorf("%s: %w", manifestFile, err)}
		}
	}
	archive, err := pack(files)
	if err != nil {
		return nil, err
	}
	return Unpack(ctx, b.Name, archive, nil)
}

// withRevision is a manifest with another revision. Members are in the order of their
// names.
func withRevision(manifest []byte, revision string) ([]byte, error) {
	if manifest == nil {
		return nil, errors.New("the bundle has none")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(manifest, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("it must be an object")
	}
	text, err := json.Marshal(revision)
	if err != nil {
		return nil, err
	}
	members["revision"] = text
	content, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(content, '\n'), nil
}

// SignArchive returns an archive with a signature of all that is in it; one that it
// has is replaced. name is for errors.
func (s *Signer) SignArchive(ctx context.Context, name string, archive []byte) (*Bundle, error) {
	f, err := readArchive(ctx, name, bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	files := f.everything()
	if files[SignaturesFile], err = s.Sign(files); err != nil {
		return nil, err
	}
	signed, err := pack(files)
	if err != nil {
		return nil, err
	}
	return Unpack(ctx, name, signed, s.self)
}

// SignFolder signs all that is in a folder, but for folders whose names start with a
// dot, which are no part of a bundle. It returns the bundle with its signature, and what is to
// be written to [SignaturesFile] in the folder.
func (s *Signer) SignFolder(ctx context.Context, folder string) (b *Bundle, signature []byte, err error) {
	f, err := readFolder(ctx, folder, true)
	if err != nil {
		return nil, nil, err
	}
	if signature, err = s.Sign(f.everything()); err != nil {
		return nil, nil, err
	}
	f.rest[SignaturesFile] = signature
	b, err = f.bundle(nil, s.self)
	return b, signature, err
}
