package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies"
	"patrol/policies/engine"
)

// entry is one member of an archive.
type entry struct {
	name string
	body string
	kind byte // 0 is a regular file
	link string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		require.NoError(t, tw.WriteHeader(&tar.Header{
			Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.body)), Mode: 0o644,
		}))
		_, err := tw.Write([]byte(e.body))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, gz.Close())
	return buf.Bytes()
}

// defaultEntries is the embedded bundle, every name with prefix.
func defaultEntries(t testing.TB, prefix string) (entries []entry) {
	t.Helper()
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := policies.FS.ReadFile(p)
		entries = append(entries, entry{name: prefix + p, body: string(content)})
		return err
	}))
	return entries
}

func TestOpenEmbedded(t *testing.T) {
	src, err := Open(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, "embedded", src.Name)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(src.Files)), []string{
		".manifest", "capabilities.json", "authz/authz.rego", "authz/authz_test.rego", "http/http.rego", "http/http_test.rego", "http/own_routes_test.rego", "log/mask.rego", "log/mask_test.rego",
		"patrol/catalog/data.yaml", "patrol/choosers/data.yaml", "patrol/roles/data.yaml", "patrol/routes/data.yaml",
	})
	_, err = engine.Load(t.Context(), src)
	require.NoError(t, err)
}

func TestEverySourceGivesTheSamePolicy(t *testing.T) {
	embedded, err := Open(t.Context(), "")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "folder"), policies.FS))
	for name, prefix := range map[string]string{"plain": "", "slash": "/", "dot": "./"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".tar.gz"), archive(t, defaultEntries(t, prefix)...), 0o600))
	}
	for _, name := range []string{"folder", "plain.tar.gz", "slash.tar.gz", "dot.tar.gz"} {
		src, err := Open(t.Context(), filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, embedded.Files, src.Files, name)
		assert.Equal(t, filepath.Join(dir, name), src.Name)
	}
}

// TestBuiltByOPA reads what `opa build -b` makes of the folder.
func TestBuiltByOPA(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "policies"), policies.FS))
	var built bytes.Buffer
	require.NoError(t, compile.New().WithAsBundle(true).WithPaths(filepath.Join(dir, "policies")).WithOutput(&built).Build(t.Context()))
	unpacked, err := Unpack(t.Context(), "built", built.Bytes(), nil)
	require.NoError(t, err)
	got, err := engine.Load(t.Context(), unpacked.Source)
	require.NoError(t, err)

	src, err := Open(t.Context(), "")
	require.NoError(t, err)
	want, err := engine.Load(t.Context(), src)
	require.NoError(t, err)
	assert.Equal(t, want.Catalog(), got.Catalog())
}

func TestFolderLinks(t *testing.T) {
	dir := t.TempDir()
	mount, outside := filepath.Join(dir, "mount"), filepath.Join(dir, "outside")
	require.NoError(t, os.MkdirAll(filepath.Join(mount, "..data"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(mount, "..data", ".manifest"), []byte("{}"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join("..data", ".manifest"), filepath.Join(mount, ".manifest")))

	src, err := Open(t.Context(), mount)
	require.NoError(t, err, "a link that stays inside is followed")
	assert.Equal(t, map[string][]byte{".manifest": []byte("{}")}, src.Files, "and read once")

	require.NoError(t, os.WriteFile(outside, []byte("package patrol.x"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(mount, "x.rego")))
	_, err = Open(t.Context(), mount)
	require.ErrorContains(t, err, "x.rego")
	assert.ErrorContains(t, err, "escapes")
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	notArchive := filepath.Join(dir, "policy.rego")
	require.NoError(t, os.WriteFile(notArchive, []byte("package patrol"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "odd", "data.json"), 0o700))
	for name, c := range map[string]struct{ source, want string }{
		"URL":        {"https://example.com/bundle.tar.gz", "only the server polls URLs"},
		"NUL":        {"a\x00b", "NUL"},
		"not there":  {filepath.Join(dir, "nowhere"), "no such file"},
		"no archive": {notArchive, "not a gzipped tar archive"},
		"not a file": {os.DevNull, "neither a folder nor a file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), c.source)
			assert.ErrorContains(t, err, c.want)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, "")
	require.ErrorIs(t, err, context.Canceled)
	_, err = readArchive(ctx, "a", bytes.NewReader(archive(t, entry{name: ".manifest", body: "{}"})))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestArchiveRefuses(t *testing.T) {
	var many []entry
	for i := range maxFiles + 1 {
		many = append(many, entry{name: fmt.Sprintf("notes/%d.txt", i)})
	}
	big := strings.Repeat("x", maxFile)
	sound := archive(t, entry{name: ".manifest", body: strings.Repeat("{}", 1000)})
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"path out of it":      {archive(t, entry{name: "../x.rego"}), `"../x.rego" is not a plain path inside the bundle`},
		"path out, later":     {archive(t, entry{name: "a/../../x.rego"}), "not a plain path"},
		"path out, absolute":  {archive(t, entry{name: "//etc/x.rego"}), "not a plain path"},
		"dots inside":         {archive(t, entry{name: "a/./x.rego"}), "not a plain path"},
		"backslash":           {archive(t, entry{name: `..\x.rego`}), "not a plain path"},
		"symbolic link":       {archive(t, entry{name: "x.rego", kind: tar.TypeSymlink, link: "/etc/passwd"}), "may not contain links"},
		"hard link":           {archive(t, entry{name: "x.rego", kind: tar.TypeLink, link: "y.rego"}), "may not contain links"},
		"device":              {archive(t, entry{name: "x.rego", kind: tar.TypeChar}), "may not contain links or devices"},
		"one name twice":      {archive(t, entry{name: "x.rego"}, entry{name: "/x.rego"}), "x.rego: it is there twice"},
		"too many files":      {archive(t, many...), "more than 5000 files"},
		"a file too large":    {archive(t, entry{name: "x.rego", body: big + "x"}), "x.rego: it is larger than 8 MiB"},
		"too large together":  {archive(t, entry{name: "1.rego", body: big}, entry{name: "2.rego", body: big}, entry{name: "3.rego", body: big}, entry{name: "4.rego", body: big}, entry{name: "5.rego", body: "x"}), "larger than 32 MiB together"},
		"bomb in other files": {archive(t, entry{name: "1.txt", body: big}, entry{name: "2.txt", body: big}, entry{name: "3.txt", body: big}, entry{name: "4.txt", body: big}, entry{name: "x.rego", body: "x"}), "larger than 32 MiB together"},
		"bomb in one file":    {archive(t, entry{name: "notes.txt", body: strings.Repeat(big, 6)}), "notes.txt: it is larger than 8 MiB"},
		"cut short":           {sound[:len(sound)-20], "not a sound tar archive"},
		"not a tar inside":    {gzipped(t, strings.Repeat("no tar", 1000)), "not a sound tar archive"},
		"empty":               {nil, "not a gzipped tar archive"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readArchive(t.Context(), "p.tar.gz", bytes.NewReader(c.archive))
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "open policy p.tar.gz")
		})
	}
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	require.NoError(t, err)
	_, err = gz.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, gz.Close())
	return buf.Bytes()
}

// FuzzArchive holds that whatever is read from an archive stays inside the bundle
// and the limits. With zipped false the content is the tar archive inside, which
// random changes get further into than past the checksum of the outer layer.
func FuzzArchive(f *testing.F) {
	for _, entries := range [][]entry{
		defaultEntries(f, "/")[:3],
		{{name: "../x.rego"}, {name: "data.json", body: `{"patrol": {}}`}},
		{{name: "a", kind: tar.TypeDir}, {name: "./a/x.rego", body: "package patrol.a"}, {name: "a/x.rego", kind: tar.TypeSymlink, link: "/"}},
		{{name: strings.Repeat("long/", 60) + "data.yaml", body: "a: 1"}},
	} {
		zipped := archive(f, entries...)
		f.Add(zipped, true)
		gz, err := gzip.NewReader(bytes.NewReader(zipped))
		require.NoError(f, err)
		plain, err := io.ReadAll(gz)
		require.NoError(f, err)
		f.Add(plain, false)
	}
	f.Fuzz(func(t *testing.T, content []byte, zipped bool) {
		if !zipped {
			content = gzipped(t, string(content))
		}
		read, err := readArchive(t.Context(), "fuzz", bytes.NewReader(content))
		if err != nil {
			return
		}
		src := read.source
		total := 0
		for name, body := range src.Files {
			assert.True(t, fs.ValidPath(name), "%q", name)
			assert.True(t, engine.IsPolicyFile(name) || engine.IsTestFile(name), "%q", name)
			assert.NotContains(t, name, `\`)
			total += len(body)
		}
		assert.LessOrEqual(t, total, maxTotal)
	})
}
