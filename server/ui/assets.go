package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// AssetPath is the path under which [UI.ServeAsset] answers, one segment more.
const AssetPath = "/assets/"

var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assets are the embedded files under names that contain a digest of their
// content: an address never changes its meaning, so browsers may keep it for
// good.
type assets struct {
	urls map[string]string // file name → address
	// integrity has the digest of each file by which a page names it (Subresource Integrity).
	integrity map[string]string
	files     map[string]asset // last segment of the address → file
}

type asset struct {
	kind         string
	body, packed []byte
}

func loadAssets() (*assets, error) {
	a := &assets{urls: map[string]string{}, integrity: map[string]string{}, files: map[string]asset{}}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		body, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			return nil, err
		}
		ext := path.Ext(entry.Name())
		kind, ok := assetTypes[ext]
		if !ok {
			return nil, fmt.Errorf("the asset %s is of no known type", entry.Name())
		}
		sum := sha256.Sum256(body)
		name := strings.TrimSuffix(entry.Name(), ext) + "." + base64.RawURLEncoding.EncodeToString(sum[:9]) + ext
		var packed bytes.Buffer
		compress(&packed, body)
		a.urls[entry.Name()] = AssetPath + name
		a.integrity[entry.Name()] = "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
		a.files[name] = asset{kind: kind, body: body, packed: packed.Bytes()}
	}
	return a, nil
}

// url returns the address of a file. A template that names a file which is not
// there does not render.
func (a *assets) url(name string) (string, error) {
	url, ok := a.urls[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return url, nil
}

// digest returns the digest of a file for the page that loads it.
func (a *assets) digest(name string) (string, error) {
	digest, ok := a.integrity[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return digest, nil
}

// scripts are the sources of scripts for a content policy: the digests of ours, and nothing that
// is served elsewhere under this host, as proxied content is.
func (a *assets) scripts() string {
	var sources []string
	for _, name := range slices.Sorted(maps.Keys(a.integrity)) {
		if path.Ext(name) == ".js" {
			sources = append(sources, "'"+a.integrity[name]+"'")
		}
	}
	return strings.Join(sources, " ")
}

// ServeAsset answers with the asset of this name, the last segment of its
// address, and reports whether there is one.
func (u *UI) ServeAsset(w http.ResponseWriter, r *http.Request, name string) bool {
	file, ok := u.assets.files[name]
	if !ok {
		return false
	}
	header := w.Header()
	header.Set("Content-Type", file.kind)
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Vary", "Accept-Encoding")
	body := file.body
	if acceptsGzip(r.Header) {
		header.Set("Content-Encoding", "gzip")
		body = file.packed
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the client is gone if this fails
	return true
}
