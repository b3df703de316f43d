//go:build !race

package bundles

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
)

// refusedBundle is something that must not come into force.
type refusedBundle struct {
	files   map[string]string // that are other than in the bundle that is in force; "" takes one away
	archive []byte            // or the whole
	gate    string            // which one it is sent through, "" is the usual one
	stage   engine.Stage
	code    string
	at      string // file and line, if there is one
	says    string
}

// gates are the gates that candidates pass.
func gates() map[string]GateConfig {
	return map[string]GateConfig{
		"":        {MinCoverage: -1},
		"covered": {MinCoverage: 100, TestTimeout: 2 * time.Minute}, // tests of the default policy, on a machine that is busy
		"signed":  {MinCoverage: -1},
		"hurried": {MinCoverage: -1, TestTimeout: time.Second},
		"patient": {MinCoverage: -1, TestTimeout: time.Minute, Limits: sandbox.Limits{CPU: 10 * time.Second}},
		"small":   {MinCoverage: -1, TestTimeout: time.Minute, Limits: sandbox.Limits{Memory: 384 << 20}},
	}
}

// inForce are the files of the policy that is in force before each.
func inForce(t testing.TB, gate string) map[string]string {
	files := map[string]string{}
	from := lightFiles(t, nil)
	if gate == "covered" {
		from = embeddedFiles(t, nil)
	}
	for name, content := range from {
		files[name] = string(content)
	}
	if gate == "signed" {
		files = signedBy(t, files, rsaPairs()[0], "release")
	}
	return files
}

func signedBy(t testing.TB, files map[string]string, key pair, id string) map[string]string {
	t.Helper()
	signer, err := NewSigner(Key{ID: id, Algorithm: key.algorithm, Secret: key.private}, "")
	require.NoError(t, err)
	contents := map[string][]byte{}
	for name, content := range files {
		contents[name] = []byte(content)
	}
	signature, err := signer.Sign(contents)
	require.NoError(t, err)
	return changed(files, SignaturesFile, string(signature))
}

// corpus is everything that must be refused, and where and why.
func corpus(t testing.TB) map[string]refusedBundle {
	own := inForce(t, "")
	// edited replaces a part of a file.
	edited := func(file, from, to string) map[string]string {
		require.Contains(t, own[file], from)
		return map[string]string{file: strings.Replace(own[file], from, to, 1)}
	}
	const decision = "\ndecision := object.union(answer"
	// decides makes the decision another one if a condition holds.
	decides := func(what, condition string) map[string]string {
		return edited("authz/authz.rego", decision, "\ndecision := "+what+" if {"+condition+"} else := object.union(answer")
	}
	allows := func(condition string) map[string]string { return decides(`{"allow": true, "reasons": []}`, condition) }
	with := func(body string) map[string]string {
		return map[string]string{"x/x.rego": "package patrol.x\n\n" + body}
	}
	// tested replaces all tests.
	tested := func(body string) map[string]string {
		return map[string]string{
			"authz/authz_test.rego": "", "http/http_test.rego": "", "http/own_routes_test.rego": "", "log/mask_test.rego": "", "x_test.rego": "package patrol.x_test\n\n" + body,
		}
	}
	const spin = `count({x | some i in numbers.range(1, 99999); some j in numbers.range(1, 99999); x := i * j; x < 0}) == 1`
	const grow = `{ z := sprintf("%01000d", [0]); y := replace(z, "0", z); count([x | some i in numbers.range(1, 9999); x := concat("", [y, format_int(i, 10)])]) == 1 }`
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	zeros := strings.Repeat("\x00", maxFile)
	var many []entry
	for i := range maxFiles + 1 {
		many = append(many, entry{name: "f" + strconv.Itoa(i)})
	}
	ownArchive := packed(t, own)
	signed := inForce(t, "signed")
	another := signedBy(t, own, rsaPairs()[1], "release")
	stranger := signedBy(t, own, rsaPairs()[0], "stranger")
	unsignedToken := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"release"}`)) + "." + strings.Split(tokenOf(t, signed), ".")[1] + "."

	all := map[string]refusedBundle{
		// The archive.
		"no archive":               {archive: []byte("package patrol"), stage: engine.StageRead, code: "unreadable", says: "not a gzipped tar archive"},
		"an empty file":            {archive: []byte{}, stage: engine.StageRead, code: "unreadable", says: "not a gzipped tar archive"},
		"cut short":                {archive: ownArchive[:5000], stage: engine.StageRead, code: "unreadable", says: "unexpected EOF"},
		"one bit is another":       {archive: flipped(ownArchive), stage: engine.StageRead, code: "unreadable", says: "it is damaged: gzip: invalid checksum"},
		"a path out of it":         {archive: archive(t, entry{name: "../../etc/x.rego", body: "package patrol.x"}), stage: engine.StageRead, code: "unreadable", says: "not a plain path inside the bundle"},
		"a path out of it, hidden": {archive: archive(t, entry{name: "x/../../x.rego", body: "package patrol.x"}), stage: engine.StageRead, code: "unreadable", says: "not a plain path inside the bundle"},
		"a path of Windows":        {archive: archive(t, entry{name: `..\x.rego`, body: "package patrol.x"}), stage: engine.StageRead, code: "unreadable", says: "not a plain path inside the bundle"},
		"a link":                   {archive: archive(t, entry{name: "x.rego", kind: tar.TypeSymlink, link: "/etc/passwd"}), stage: engine.StageRead, code: "unreadable", says: "may not contain links"},
		"a hard link":              {archive: archive(t, entry{name: "x.rego", kind: tar.TypeLink, link: "authz/authz.rego"}), stage: engine.StageRead, code: "unreadable", says: "may not contain links"},
		"a device":                 {archive: archive(t, entry{name: "x.rego", kind: tar.TypeChar}), stage: engine.StageRead, code: "unreadable", says: "may not contain links or devices"},
		"a file twice":             {archive: archive(t, entry{name: "x/x.rego", body: "package patrol.x"}, entry{name: "./x/x.rego", body: "package patrol.y"}), stage: engine.StageRead, code: "unreadable", says: "x/x.rego: it is there twice"},
		"too many files":           {archive: archive(t, many...), stage: engine.StageRead, code: "unreadable", says: "more than 5000 files"},
		"a bomb of one file":       {archive: archive(t, entry{name: "x.rego", body: zeros + zeros}), stage: engine.StageRead, code: "unreadable", says: "larger than 8 MiB"},
		"a bomb of many files":     {archive: archive(t, entry{name: "1", body: zeros}, entry{name: "2", body: zeros}, entry{name: "3", body: zeros}, entry{name: "4", body: zeros}, entry{name: "5", body: zeros}), stage: engine.StageRead, code: "unreadable", says: "larger than 32 MiB together"},
		"a large archive":          {archive: bytes.Repeat([]byte("x"), maxTotal+1), stage: engine.StageRead, code: "unreadable", says: "the archive is larger than 32 MiB"},

		// The signature.
		"not signed":                     {gate: "signed", archive: ownArchive, stage: StageSignature, code: "signature_invalid", says: "it is not signed"},
		"signed with another key":        {gate: "signed", archive: packed(t, another), stage: StageSignature, code: "signature_invalid", says: "signature"},
		"signed with a key of no name":   {gate: "signed", archive: packed(t, stranger), stage: StageSignature, code: "signature_invalid", says: "stranger"},
		"changed after it was signed":    {gate: "signed", archive: packed(t, changed(signed, "authz/authz.rego", signed["authz/authz.rego"]+"\n")), stage: StageSignature, code: "signature_invalid", says: "authz/authz.rego"},
		"added to after it was signed":   {gate: "signed", archive: packed(t, changed(signed, "x/x.rego", "package patrol.x")), stage: StageSignature, code: "signature_invalid", says: "x/x.rego"},
		"less than was signed":           {gate: "signed", archive: packed(t, changed(signed, "log/mask.rego", "")), stage: StageSignature, code: "signature_invalid", says: "log/mask.rego"},
		"signed by nobody, it says":      {gate: "signed", archive: packed(t, withSignatures(t, signed, unsignedToken)), stage: StageSignature, code: "signature_invalid", says: ""},
		"signed with something or other": {gate: "signed", archive: packed(t, withSignatures(t, signed, "a.b.c")), stage: StageSignature, code: "signature_invalid", says: ""},

		// The content.
		"no manifest":           {files: map[string]string{".manifest": ""}, stage: engine.StageRead, code: "unreadable", says: "the bundle has none"},
		"a manifest of no use":  {files: map[string]string{".manifest": `{"roots": ["patrol"], "revision": "` + strings.Repeat("x", 201) + `"}`}, stage: engine.StageRead, code: "unreadable", says: "revision must be at most 200"},
		"a broken manifest":     {files: map[string]string{".manifest": `{"roots": `}, stage: engine.StageRead, code: "unreadable", at: ".manifest:0", says: "unexpected EOF"},
		"a foreign root":        {files: map[string]string{".manifest": `{"roots": ["patrol", "system"]}`}, stage: engine.StageRead, code: "unreadable", says: "roots must be"},
		"all roots":             {files: map[string]string{".manifest": `{"roots": [""]}`}, stage: engine.StageRead, code: "unreadable", says: "roots must be"},
		"a foreign package":     {files: map[string]string{"x.rego": "package system.log"}, stage: engine.StageRead, code: "unreadable", says: "outside of patrol"},
		"foreign data":          {files: map[string]string{"system/data.json": "{}"}, stage: engine.StageRead, code: "unreadable", says: "outside of patrol"},
		"a delta bundle":        {files: map[string]string{"patch.json": `{"data": []}`}, stage: engine.StageRead, code: "unreadable", says: "not supported"},
		"WebAssembly":           {files: map[string]string{"policy.wasm": "\x00asm"}, stage: engine.StageRead, code: "unreadable", says: "not supported"},
		"a plan":                {files: map[string]string{"plan.json": "{}"}, stage: engine.StageRead, code: "unreadable", says: "not supported"},
		"YAML that grows":       {files: map[string]string{"patrol/x/data.yaml": laughs}, stage: engine.StageRead, code: "unreadable", says: "alias"},
		"JSON without a floor":  {files: map[string]string{"patrol/x/data.json": `{"a":` + strings.Repeat("[", 1<<20)}, stage: engine.StageRead, code: "unreadable", says: "max depth"},
		"broken JSON":           {files: map[string]string{"patrol/x/data.json": `{"a": 1,}`}, stage: engine.StageRead, code: "unreadable", at: "patrol/x/data.json:0", says: "invalid character '}'"},
		"huge data":             {gate: "small", files: map[string]string{"patrol/x/data.json": `{"a":[` + strings.Repeat("[],", 2_600_000) + `[]]}`}, stage: StageLimits, code: "limit_exceeded", says: "more than 384 MiB of memory"},
		"Rego without a floor":  {files: with("p := " + strings.Repeat("(", 1<<20)), stage: engine.StageRead, code: "rego_parse_error", at: "x/x.rego:3", says: "max parsing recursion depth"},
		"syntax":                {files: with("p := "), stage: engine.StageRead, code: "rego_parse_error", at: "x/x.rego:3"},
		"not UTF-8":             {files: with("p := \"\xff\""), stage: engine.StageRead, code: "rego_parse_error", at: "x/x.rego:3"},
		"Rego v0":               {files: with("p { true }"), stage: engine.StageRead, code: "rego_parse_error", at: "x/x.rego:3", says: "`if` keyword is required"},
		"no package":            {files: map[string]string{"x/x.rego": "p := 1\n"}, stage: engine.StageRead, code: "rego_parse_error", at: "x/x.rego:1", says: "package expected"},
		"roles of no operation": {files: map[string]string{"patrol/roles/data.yaml": "viewer: {models: {fly: true}}"}, stage: engine.StageData, code: "data_invalid", says: "fly"},
		"roles of another form": {files: map[string]string{"patrol/roles/data.yaml": "viewer: [models]"}, stage: engine.StageData, code: "data_invalid", says: "viewer"},
		"no catalog":            {files: map[string]string{"patrol/catalog/data.yaml": ""}, stage: engine.StageData, code: "data_invalid", says: "catalog"},
		"no routes":             {files: map[string]string{"patrol/routes/data.yaml": ""}, stage: engine.StageData, code: "data_invalid", says: "routes"},
		"a route to nowhere":    {files: map[string]string{"patrol/routes/data.yaml": "\"GET /x\": {entity_type: robots, operation: read}\n"}, stage: engine.StageData, code: "data_invalid", says: "robots"},
		"a type error":          {files: with("p if 1 + \"a\" == 2"), stage: engine.StageCompile, code: "rego_type_error", at: "x/x.rego:3", says: "plus: invalid argument"},
		"a slip of the pen":     {files: edited("authz/authz.rego", "input.domain", "input.domian"), stage: engine.StageCompile, code: "rego_type_error", says: "domian"},
		"recursion":             {files: with("p if q\n\nq if p"), stage: engine.StageCompile, code: "rego_recursion_error", at: "x/x.rego:3", says: "recursive"},
		"rules in conflict":     {files: with("p := 1\n\np contains 2"), stage: engine.StageCompile, code: "rego_type_error", at: "x/x.rego:3", says: "conflicting rules data.patrol.x.p found"},
		"an unsafe variable":    {files: with("p := q"), stage: engine.StageCompile, code: "rego_unsafe_var_error", at: "x/x.rego:3", says: "q is unsafe"},
		"an unused variable":    {files: with("p if {\n\tq := 1\n\ttrue\n}"), stage: engine.StageCompile, code: "rego_compile_error", at: "x/x.rego:4", says: "unused"},
		"prints":                {files: with("p if print(input.token)"), stage: engine.StageCompile, code: "print_call", at: "x/x.rego:3", says: "policies do not print"},
		"its own capabilities":  {files: map[string]string{"capabilities.json": `{"builtins": [{"name": "http.send", "decl": {"type": "function"}}]}`}, stage: engine.StageCompile, code: "rego_compile_error", says: "http.send is not available"},

		// The decisions.
		"no decision":                      {files: edited("authz/authz.rego", "\ndecision :=", "\nverdict :="), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "it defines no data.patrol.authz.decision"},
		"no request":                       {files: map[string]string{"http/http.rego": ""}, stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "it defines no data.patrol.http.request"},
		"allows everything":                {files: allows("true"), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "allows a request about which nothing is known"},
		"allows on what is undefined":      {files: allows("not input.user"), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "allows a request about which nothing is known"},
		"decides twice":                    {files: edited("authz/authz.rego", decision, "\ndecision := {\"allow\": true, \"reasons\": []} if true\n"+decision), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "conflict"},
		"decides yes":                      {files: decides(`"yes"`, "true"), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "decision"},
		"denies for nothing":               {files: decides(`{"allow": false, "reasons": []}`, "not input.user"), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "reason"},
		"spins on what is undefined":       {gate: "patient", files: allows("not input.user\n\t" + spin), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: ""},
		"a back door":                      {gate: "covered", files: allows(`input.user.email == "eve@example.com"`), stage: engine.StageCoverage, code: "coverage_low", says: "100% are required"},
		"allows what is revoked":           {files: allows("input.user.id\n\tinput.request.domain\n\tinput.token.revoked == true"), stage: engine.StageSafety, code: "safety_violated", says: "token_revoked"},
		"allows what is expired, untested": {files: allows("input.user.id\n\tinput.request.domain\n\tinput.now == input.token.expires_at"), stage: engine.StageSafety, code: "safety_violated", says: "token_expired"},
		"allows the disabled":              {files: allows("input.request.domain\n\tinput.user.disabled == true"), stage: engine.StageSafety, code: "safety_violated", says: "user_disabled"},
		"allows strangers":                 {files: allows("input.user.id\n\tinput.request.domain\n\tinput.token.id\n\tinput.domain.id\n\tnot input.membership\n\tinput.token.revoked == false\n\tinput.now < input.token.expires_at\n\tinput.now > 1000"), stage: engine.StageSafety, code: "safety_violated", says: "membership_absent"},

		// The tests.
		"no tests":                 {files: map[string]string{"authz/authz_test.rego": ""}, stage: engine.StageTests, code: "tests_missing", says: "the bundle has no tests"},
		"a failing test":           {files: map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_x if 1 == 2"}, stage: engine.StageTests, code: "test_failed", at: "x_test.rego:3", says: "does not hold: 1 == 2"},
		"tests that assert naught": {files: tested("test_x if 1 == 1"), stage: engine.StageTests, code: "tests_vacuous", says: "allows everything"},
		"tests that do not run":    {files: tested("todo_test_x if 1 == 1"), stage: engine.StageTests, code: "tests_missing", says: "the bundle has no tests"},
		"tests that cover little":  {gate: "covered", files: tested("test_x if 1 == 1"), stage: engine.StageCoverage, code: "coverage_low", says: "100% are required"},
		"a test of another policy": {files: map[string]string{"x_test.rego": "package patrol.authz\n\ntoken_unrevoked if true"}, stage: engine.StageTests, code: "test_changes_policy", at: "x_test.rego:3", says: "would be of another policy"},
		"a test without end":       {gate: "hurried", files: tested("test_x if " + spin), stage: engine.StageTests, code: "test_error", says: "took longer than 1s"},

		// Time and memory.
		"takes all the time":           {gate: "patient", files: tested("test_x if " + spin), stage: StageLimits, code: "limit_exceeded", says: "more than 10s of CPU time"},
		"makes too much in a test":     {gate: "small", files: tested("test_x if " + grow), stage: engine.StageTests, code: "test_error", says: "values that are too large"},
		"makes too much for a request": {gate: "small", files: merged(allows("data.patrol.x.p"), with("# METADATA\n# title: It is large\np if "+grow)), stage: engine.StageEntrypoints, code: "entrypoint_invalid", says: "values that are too large"},
	}
	// The built-in functions.
	for _, call := range []string{
		`http.send({"method": "GET", "url": "http://169.254.169.254"})`, "opa.runtime().env", `net.lookup_ip_addr("example.com")`, "time.now_ns()",
		`rand.intn("x", 2)`, `uuid.rfc4122("x")`, `rego.parse_module("x", "package x")`, `io.jwt.decode_verify("x", {})`,
	} {
		name, _, _ := strings.Cut(call, "(")
		all["asks "+name] = refusedBundle{files: with("p := " + call), stage: engine.StageCompile, code: "rego_type_error", at: "x/x.rego:3", says: "undefined function " + name}
	}
	return all
}

func merged(files, more map[string]string) map[string]string {
	maps.Copy(files, more)
	return files
}

// flipped is an archive with one bit changed, in the checksum of what is in it.
func flipped(archive []byte) []byte {
	archive = slices.Clone(archive)
	archive[len(archive)-6] ^= 1
	return archive
}

// proving is a delivery that candidates are sent to.
type proving struct {
	file     string
	delivery *Delivery
	ledger   *memoryLedger
	snapshot *engine.Snapshot
	archive  []byte
}

func prove(t *testing.T, gate string, cfg GateConfig) *proving {
	t.Helper()
	p := &proving{file: filepath.Join(t.TempDir(), "policy.tar.gz"), archive: packed(t, inForce(t, gate))}
	replace(t, p.file, p.archive)
	o := Options{Source: p.file, Interval: 5 * time.Millisecond}
	if gate == "signed" {
		o.Verifier = verifier(t, "", rsaPairs()[0].key("release"))
	}
	source, err := NewSource(o)
	require.NoError(t, err)
	p.delivery, p.ledger = begin(t, source, cfg)
	p.snapshot = p.delivery.Engine().Current()
	return p
}

// TestRefusedChangesNothing sends everything through the gate that must not come
// into force, and holds that it is refused where and because it is wrong, while all
// requests get the answers of the policy in force, and that nothing of it stays in this
// process.
func TestRefusedChangesNothing(t *testing.T) {
	all := corpus(t)
	require.GreaterOrEqual(t, len(all), 60)
	proved := map[string]*proving{}
	for name, cfg := range gates() {
		proved[name] = prove(t, name, cfg)
	}

	stop := make(chan struct{})
	var requests, late, wrong atomic.Int64
	var load sync.WaitGroup
	for _, p := range proved {
		load.Go(func() {
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
				}
				requests.Add(2)
				ok, err := answers(t.Context(), p.delivery.Engine())
				if errors.Is(err, engine.ErrTimeout) { // the machine was busy with something else
					late.Add(1)
					ok, err = answers(t.Context(), p.delivery.Engine())
				}
				if !ok || err != nil || p.delivery.Engine().Current() != p.snapshot {
					wrong.Add(1)
				}
			}
		})
	}
	before := footprint(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		if c.stage == StageLimits && !sandbox.Enforced {
			continue
		}
		t.Run(name, func(t *testing.T) { proved[c.gate].refuses(t, c) })
	}
	after := footprint(t)
	close(stop)
	load.Wait()
	assert.Zero(t, wrong.Load(), "of %d requests", requests.Load())
	assert.LessOrEqual(t, 1000*late.Load(), requests.Load())
	assert.Greater(t, requests.Load(), int64(len(all)))
	assert.LessOrEqual(t, after.goroutines, before.goroutines+2)
	assert.LessOrEqual(t, after.heap, before.heap+8<<20)
	assert.LessOrEqual(t, after.resident, before.resident+64<<20)
	t.Logf("%d bundles, %d requests, %d late; heap %d -> %d KiB, resident %d -> %d KiB, goroutines %d -> %d", len(all), requests.Load(), late.Load(),
		before.heap>>10, after.heap>>10, before.resident>>10, after.resident>>10, before.goroutines, after.goroutines)
}

// refuses puts a bundle in the place of the one before.
func (p *proving) refuses(t *testing.T, c refusedBundle) {
	refusals := testutil.ToFloat64(p.delivery.metrics.candidates.WithLabelValues(outcomeRefused))
	if c.archive == nil {
		files := inForce(t, c.gate)
		maps.Copy(files, c.files)
		maps.DeleteFunc(files, func(_, content string) bool { return content == "" })
		c.archive = packed(t, files)
	}
	replace(t, p.file, c.archive)
	r := p.ledger.next(t)
	assert.False(t, r.Result.Passed)
	if len(c.archive) <= maxTotal {
		assert.Equal(t, ArchiveDigest(c.archive), r.ArchiveDigest)
	} else {
		assert.Empty(t, r.ArchiveDigest)
	}
	assert.Condition(t, func() bool {
		for _, f := range r.Result.Findings {
			if f.Stage == c.stage && f.Code == c.code && strings.Contains(f.Message, c.says) && (c.at == "" || f.File+":"+strconv.Itoa(f.Line) == c.at) {
				return true
			}
		}
		return false
	}, "no finding is %s %s %s %q: %.2000v", c.stage, c.code, c.at, c.says, r.Result.Findings)

	assert.Same(t, p.snapshot, p.delivery.Engine().Current())
	assert.True(t, allows(t, p.delivery.Engine()))
	status := p.delivery.Status()
	assert.Equal(t, p.snapshot.Revision(), status.Active.Revision)
	require.NotNil(t, status.Source.Pending)
	assert.True(t, status.Source.Pending.Refused)
	kept, digest, _ := p.delivery.Archive()
	assert.Equal(t, ArchiveDigest(p.archive), digest)
	assert.True(t, bytes.Equal(p.archive, kept))
	assert.InDelta(t, 1, testutil.ToFloat64(p.delivery.metrics.refused), 0)
	assert.InDelta(t, refusals+1, testutil.ToFloat64(p.delivery.metrics.candidates.WithLabelValues(outcomeRefused)), 0)
}

// use returns the memory and processor time that this process uses.
type use struct {
	heap, resident int64 // bytes
	goroutines     int
}

// footprint looks at this process when it has collected its garbage.
func footprint(t testing.TB) use {
	t.Helper()
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what finalizers kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := use{heap: int64(m.HeapAlloc), goroutines: runtime.NumGoroutine()}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
		require.NoError(t, err)
		u.resident = pages * int64(os.Getpagesize())
	}
	return u
}
