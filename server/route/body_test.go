package route_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/route"
)

var (
	jsonModel       = models.BodyNeed{Format: models.BodyJSON, Fields: []string{"model"}}
	jsonModelOrName = models.BodyNeed{Format: models.BodyJSON, Fields: []string{"model", "name"}, Agree: true}
	formModel       = models.BodyNeed{Format: models.BodyMultipart, Fields: []string{"model"}}
)

// readModel returns the one name that a body gives.
func readModel(need models.BodyNeed, body io.Reader, header http.Header) (string, error) {
	b, err := route.ReadBody(&need, body, header)
	if err != nil {
		return "", err
	}
	return b.Model(), nil
}

func TestReadModelJSON(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, c := range map[string]struct {
		body, want string
		need       models.BodyNeed
	}{
		"plain":                       {body: `{"model":"llama3"}`, want: "llama3"},
		"white space":                 {body: " \r\n\t{ \"model\" :\t\"llama3\" } \n", want: "llama3"},
		"last":                        {body: `{"messages":[{"role":"user","content":"hi"}],"stream":true,"n":1.5e3,"x":null,"model":"llama3"}`, want: "llama3"},
		"nested ones do not count":    {body: `{"a":{"model":"x","model":"y","Model":1},"model":"llama3","b":[{"model":2}]}`, want: "llama3"},
		"escaped key":                 {body: `{"mod\u0065l":"llama3"}`, want: "llama3"},
		"escaped value":               {body: `{"model":"ll\u0061ma3\/8b"}`, want: "llama3/8b"},
		"beyond ASCII":                {body: `{"model":"modèle","x":"\ud83d\ude00"}`, want: "modèle"},
		"absent":                      {body: `{"prompt":"hi"}`},
		"empty object":                {body: `{}`},
		"empty name":                  {body: `{"model":""}`},
		"no body":                     {body: ``},
		"longest":                     {body: `{"model":"` + strings.Repeat("m", 256) + `"}`, want: strings.Repeat("m", 256)},
		"deep enough":                 {body: `{"model":"m","x":` + deep(511) + `}`, want: "m"},
		"large":                       {body: `{"x":"` + strings.Repeat("a", 1<<20) + `","model":"m"}`, want: "m"},
		"name is no field here":       {body: `{"model":"a","name":"b","Name":1}`, want: "a"},
		"either: model":               {body: `{"model":"a"}`, want: "a", need: jsonModelOrName},
		"either: name":                {body: `{"name":"a"}`, want: "a", need: jsonModelOrName},
		"one is empty":                {body: `{"model":"","name":"b"}`, want: "b", need: jsonModelOrName},
		"the other is empty":          {body: `{"name":"","model":"b"}`, want: "b", need: jsonModelOrName},
		"both agree":                  {body: `{"name":"a","model":"a"}`, want: "a", need: jsonModelOrName},
		"repeats that are no concern": {body: `{"x":1,"x":2,"model":"m"}`, want: "m"},
	} {
		t.Run(name, func(t *testing.T) {
			need := c.need
			if need.Fields == nil {
				need = jsonModel
			}
			pieces := iotest.OneByteReader(strings.NewReader(c.body))
			if len(c.body) > 1<<10 {
				pieces = iotest.HalfReader(strings.NewReader(c.body))
			}
			for _, body := range []io.Reader{strings.NewReader(c.body), pieces} {
				got, err := readModel(need, body, http.Header{"Content-Type": {"application/json"}})
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
			}
		})
	}
}

// jsonTricks are bodies that some parsers read in another way than others do.
var jsonTricks = map[string]string{
	"key twice":                 `{"model":"a","model":"b"}`,
	"key twice, same value":     `{"model":"a","model":"a"}`,
	"key twice, once escaped":   `{"model":"a","\u006dodel":"b"}`,
	"case variant":              `{"Model":"a"}`,
	"case variant beside":       `{"model":"a","MODEL":"b"}`,
	"case variant, escaped":     `{"model":"a","\u004dodel":"b"}`,
	"name with blank":           `{"model ":"a"}`,
	"name with tab":             `{"\tmodel":"a"}`,
	"name with nul":             `{"model\u0000":"a"}`,
	"name with nul and more":    `{"model\u0000x":"a"}`,
	"name with index":           `{"model[]":"a"}`,
	"null":                      `{"model":null}`,
	"number":                    `{"model":1}`,
	"true":                      `{"model":true}`,
	"array":                     `{"model":["a"]}`,
	"object":                    `{"model":{"a":1}}`,
	"nul in the value":          `{"model":"a\u0000b"}`,
	"line feed in the value":    `{"model":"a\nb"}`,
	"too long":                  `{"model":"` + strings.Repeat("m", 257) + `"}`,
	"unpaired surrogate":        `{"model":"\ud800"}`,
	"unpaired surrogate as key": `{"\udc00":1,"model":"a"}`,
	"byte order mark":           "\xef\xbb\xbf" + `{"model":"a"}`,
	"utf-16 little endian":      "\xff\xfe{\x00\"\x00",
	"utf-16 big endian":         "\x00{\x00\"\x00m",
	"invalid utf-8":             "{\"model\":\"a\xff\"}",
	"invalid utf-8 elsewhere":   "{\"model\":\"a\",\"x\":\"\xc0\xaf\"}",
	"trailing data":             `{"model":"a"}{"model":"b"}`,
	"trailing text":             `{"model":"a"} x`,
	"trailing nul":              "{\"model\":\"a\"}\x00",
	"leading text":              `)]}'{"model":"a"}`,
	"array at the top":          `[{"model":"a"}]`,
	"string at the top":         `"model"`,
	"number at the top":         `1`,
	"cut":                       `{"model":"a"`,
	"cut in a string":           `{"model":"a`,
	"cut in a value":            `{"model":"a","x":{"y":`,
	"single quotes":             `{'model':'a'}`,
	"bare key":                  `{model:"a"}`,
	"comment":                   `{"model":"a"/*,"model":"b"*/}`,
	"line comment":              "{\"model\":\"a\"//\n}",
	"trailing comma":            `{"model":"a",}`,
	"not a number":              `{"model":"a","x":NaN}`,
	"leading zero":              `{"model":"a","x":01}`,
	"raw control character":     "{\"model\":\"a\",\"x\":\"\x01\"}",
	"raw line feed":             "{\"model\":\"a\",\"x\":\"\n\"}",
	"unknown escape":            `{"model":"a","x":"\q"}`,
	"form feed for white space": "{\"model\":\"a\"\f}",
	"no-break space":            "{\"model\":\"a\"\u00a0}",
	"too deep":                  `{"model":"m","x":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `}`,
	"very deep, never closed":   `{"x":` + strings.Repeat("[", 1<<20),
	"form":                      `model=a`,
	"method":                    `{"model":"a","_method":"DELETE"}`,
	"method, escaped":           `{"model":"a","\u005fMethod":"DELETE"}`,
	"method as in a header":     `{"model":"a","X-HTTP-Method-Override":"DELETE"}`,
}

func TestReadModelRefusesJSONTricks(t *testing.T) {
	for name, body := range jsonTricks {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(body), iotest.HalfReader(strings.NewReader(body))} {
				_, err := readModel(jsonModel, r, nil)
				require.ErrorIs(t, err, route.ErrAmbiguous)
			}
		})
	}
	for name, body := range map[string]string{
		"disagree":       `{"model":"a","name":"b"}`,
		"one has a case": `{"model":"a","Name":"a"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readModel(jsonModelOrName, strings.NewReader(body), nil)
			require.ErrorIs(t, err, route.ErrAmbiguous)
		})
	}
}

func TestReadModelFoldsLikeEncodingJSON(t *testing.T) {
	need := models.BodyNeed{Format: models.BodyJSON, Fields: []string{"task"}}
	for _, key := range []string{"TASK", "ta\u017fk", "tas\u212a"} {
		_, err := readModel(need, strings.NewReader(`{"`+key+`":"a"}`), nil)
		require.ErrorIs(t, err, route.ErrAmbiguous, key)
	}
}

func TestReadModelHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		ok     bool
	}{
		"none":                          {nil, true},
		"json":                          {http.Header{"Content-Type": {"application/json"}}, true},
		"json in utf-8":                 {http.Header{"Content-Type": {`application/json; charset="UTF-8"`}}, true},
		"what curl -d sends":            {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, true},
		"identity":                      {http.Header{"Content-Encoding": {"identity"}}, true},
		"gzip":                          {http.Header{"Content-Encoding": {"gzip"}}, false},
		"gzip behind identity":          {http.Header{"Content-Encoding": {"identity", "gzip"}}, false},
		"identity, gzip":                {http.Header{"Content-Encoding": {"identity, gzip"}}, false},
		"unknown encoding":              {http.Header{"Content-Encoding": {"x"}}, false},
		"empty encoding":                {http.Header{"Content-Encoding": {""}}, false},
		"two types":                     {http.Header{"Content-Type": {"application/json", "text/plain"}}, false},
		"utf-16":                        {http.Header{"Content-Type": {"application/json; charset=utf-16"}}, false},
		"utf-7":                         {http.Header{"Content-Type": {"application/json;charset=UTF-7"}}, false},
		"two charsets":                  {http.Header{"Content-Type": {"application/json; charset=utf-8; charset=utf-16"}}, false},
		"extended charset":              {http.Header{"Content-Type": {"application/json; charset*=us-ascii''utf-16"}}, false},
		"charset that does not end":     {http.Header{"Content-Type": {`application/json; charset="utf-8`}}, false},
		"charset with something behind": {http.Header{"Content-Type": {`application/json; charset=utf-8 utf-16`}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readModel(jsonModel, strings.NewReader(`{"model":"a"}`), c.header)
			if !c.ok {
				require.ErrorIs(t, err, route.ErrAmbiguous)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "a", got)
		})
	}
}

func TestReadModelNeedsASensibleNeed(t *testing.T) {
	for _, need := range []models.BodyNeed{{}, {Format: models.BodyJSON}, {Format: "yaml", Fields: []string{"model"}}} {
		_, err := readModel(need, strings.NewReader(`{"model":"a"}`), nil)
		require.ErrorIs(t, err, route.ErrAmbiguous)
	}
}

func TestReadModelReportsFailedReads(t *testing.T) {
	broken := errors.New("the disk is gone")
	form := http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}
	for name, c := range map[string]struct {
		need  models.BodyNeed
		start string
	}{
		"json at once":           {jsonModel, ""},
		"json in the middle":     {jsonModel, `{"model":"a",`},
		"json behind the end":    {jsonModel, `{"model":"a"}`},
		"form at once":           {formModel, ""},
		"form in a delimiter":    {formModel, "--"},
		"form in a header":       {formModel, "--b\r\nContent-"},
		"form in the content":    {formModel, part("model", "a")},
		"form behind a boundary": {formModel, part("model", "a") + "--b"},
	} {
		t.Run(name, func(t *testing.T) {
			body := io.MultiReader(strings.NewReader(c.start), iotest.ErrReader(broken))
			_, err := readModel(c.need, body, form)
			require.ErrorIs(t, err, broken)
			assert.NotErrorIs(t, err, route.ErrAmbiguous)
		})
	}
}

// part writes one part of a form whose boundary is b.
func part(name, value string, headers ...string) string {
	return rawPart(`form-data; name="`+name+`"`, value, headers...)
}

func rawPart(disposition, value string, headers ...string) string {
	lines := append([]string{"--b", "Content-Disposition: " + disposition}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + value + "\r\n"
}

const end = "--b--\r\n"

func TestReadModelMultipart(t *testing.T) {
	audio := rawPart(`form-data; name="file"; filename="a.wav"`, strings.Repeat("\x00\xff\r\n-", 50_000), "Content-Type: audio/wav")
	for name, c := range map[string]struct{ body, want string }{
		"plain":                        {part("model", "whisper-1") + end, "whisper-1"},
		"behind a file":                {audio + part("model", "whisper-1") + end, "whisper-1"},
		"before a file":                {part("model", "whisper-1") + audio + end, "whisper-1"},
		"without the last line end":    {part("model", "whisper-1") + "--b--", "whisper-1"},
		"absent":                       {audio + end, ""},
		"empty":                        {part("model", "") + end, ""},
		"no parts":                     {end, ""},
		"no body":                      {"", ""},
		"unquoted":                     {rawPart("form-data; name=model", "m") + end, "m"},
		"header in another case":       {"--b\r\ncontent-disposition:form-data;name=model\r\n\r\nm\r\n" + end, "m"},
		"with a type":                  {part("model", "m", "Content-Type: text/plain; charset=utf-8") + end, "m"},
		"with a length":                {part("model", "mm", "Content-Length: 2") + end, "mm"},
		"what Retrofit sends of files": {rawPart(`form-data; name="file"; filename="x"`, "f", "Content-Transfer-Encoding: binary", "Content-Length: 1") + part("model", "m") + end, "m"},
		"what .NET sends of files":     {rawPart(`form-data; name=file; filename=x; filename*=utf-8''x`, "f") + part("model", "m") + end, "m"},
		"array field beside":           {part("timestamp_granularities[]", "word") + part("model", "m") + end, "m"},
		"line ends in the value":       {part("prompt", "a\nb\r\n\r\nc") + part("model", "m") + end, "m"},
		"longest":                      {part("model", strings.Repeat("m", 256)) + end, strings.Repeat("m", 256)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []io.Reader{strings.NewReader(c.body), iotest.OneByteReader(strings.NewReader(c.body))} {
				got, err := readModel(formModel, body, http.Header{"Content-Type": {"multipart/form-data; boundary=b"}})
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
			}
		})
	}
}

// formTricks are forms that some parsers read in another way than others do.
var formTricks = map[string]string{
	"part twice":                     part("model", "a") + part("model", "b") + end,
	"part twice, same value":         part("model", "a") + part("model", "a") + end,
	"case variant":                   part("Model", "a") + end,
	"case variant beside":            part("model", "a") + part("MODEL", "b") + end,
	"index":                          part("model[]", "a") + end,
	"blank":                          part("model ", "a") + end,
	"as a file":                      rawPart(`form-data; name="model"; filename="x"`, "a") + end,
	"as a file without a name":       rawPart(`form-data; name="model"; filename=""`, "a") + end,
	"as an extended file":            rawPart(`form-data; name="model"; filename*=utf-8''x`, "a") + end,
	"extended name":                  rawPart(`form-data; name*=utf-8''model`, "a") + end,
	"extended name beside":           rawPart(`form-data; name=x; name*=utf-8''model`, "a") + end,
	"continued name":                 rawPart(`form-data; name*0=mod; name*1=el`, "a") + end,
	"two names":                      rawPart(`form-data; name="x"; name="model"`, "a") + end,
	"two names in two cases":         rawPart(`form-data; name="x"; NAME="model"`, "a") + end,
	"backslash in the name":          rawPart(`form-data; name="mod\el"`, "a") + end,
	"backslash quote in a filename":  rawPart(`form-data; name="f"; filename="a\"; name=\"model"`, "a") + end,
	"percent sign in the name":       part("mod%65l", "a") + end,
	"no name":                        rawPart(`form-data`, "a") + end,
	"empty disposition name":         part("", "a") + end,
	"not form data":                  rawPart(`attachment; name="model"`, "a") + end,
	"two dispositions":               part("x", "a", `Content-Disposition: form-data; name="model"`) + end,
	"no disposition":                 "--b\r\nContent-Type: text/plain\r\n\r\na\r\n" + end,
	"no header":                      "--b\r\n\r\na\r\n" + end,
	"folded header":                  "--b\r\nContent-Disposition: form-data;\r\n name=\"model\"\r\n\r\na\r\n" + end,
	"blank before the colon":         "--b\r\nContent-Disposition : form-data; name=model\r\n\r\na\r\n" + end,
	"line without a colon":           "--b\r\nContent-Disposition\r\n\r\na\r\n" + end,
	"bare line feeds":                strings.ReplaceAll(part("model", "a")+end, "\r\n", "\n"),
	"bare line feed in a header":     "--b\r\nX: y\nContent-Disposition: form-data; name=model\r\n\r\na\r\n" + end,
	"bare line feed before the end":  "--b\r\nContent-Disposition: form-data; name=model\r\n\r\na\n" + end,
	"preamble":                       "hello\r\n" + part("model", "a") + end,
	"empty line first":               "\r\n" + part("model", "a") + end,
	"epilogue":                       part("model", "a") + end + "x",
	"second form behind the end":     part("model", "a") + end + part("model", "b") + end,
	"blank behind a delimiter":       "--b \r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n" + end,
	"text behind a delimiter":        "--bc\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n" + end,
	"boundary inside a value":        part("x", "--b") + part("model", "a") + end,
	"boundary behind a line feed":    part("x", "y\n--b\nContent-Disposition: form-data; name=model\n\nevil") + part("model", "a") + end,
	"longer boundary inside":         part("x", "y\r\n--bb\r\n") + part("model", "a") + end,
	"control character in a header":  part("x", "y", "X-Y: \x05") + part("model", "a") + end,
	"boundary in a header":           part("x", "y", "X-Y: --b") + part("model", "a") + end,
	"no content line":                "--b\r\nContent-Disposition: form-data; name=model\r\n\r\n" + end,
	"cut in a header":                "--b\r\nContent-Disposition: form-data; na",
	"cut in the content":             "--b\r\nContent-Disposition: form-data; name=model\r\n\r\na",
	"cut behind a part":              part("model", "a"),
	"cut in the end":                 part("model", "a") + "--b-",
	"base64":                         part("model", "YQ==", "Content-Transfer-Encoding: base64") + end,
	"quoted-printable beside":        part("x", "=61", "Content-Transfer-Encoding: quoted-printable") + part("model", "a") + end,
	"binary model":                   part("model", "a", "Content-Transfer-Encoding: binary") + end,
	"model in another type":          part("model", "a", "Content-Type: application/json") + end,
	"model in another character set": part("model", "a", "Content-Type: text/plain; charset=utf-16") + end,
	"model with odd headers":         part("model", "a", "Content-Encoding: gzip") + end,
	"wrong length":                   part("model", "a", "Content-Length: 2") + end,
	"length of no number":            part("model", "a", "Content-Length: +1") + end,
	"_charset_":                      part("_charset_", "utf-7") + part("model", "a") + end,
	"control character in the value": part("model", "a\x00") + end,
	"not utf-8":                      part("model", "\xff") + end,
	"too long":                       part("model", strings.Repeat("m", 257)) + end,
	"much too long":                  part("model", strings.Repeat("m", 200_000)) + end,
	"too many parts":                 strings.Repeat(part("x", ""), 1001) + end,
	"too many headers":               part("x", "", strings.Split(strings.Repeat("A: b,", 20), ",")[:20]...) + end,
	"endless header":                 part("x", "", "A: "+strings.Repeat("b", 5000)) + end,
	"json":                           `{"model":"a"}`,
	"method":                         part("_method", "DELETE") + part("model", "a") + end,
}

func TestReadModelRefusesFormTricks(t *testing.T) {
	for name, body := range formTricks {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(body), iotest.HalfReader(strings.NewReader(body))} {
				_, err := readModel(formModel, r, http.Header{"Content-Type": {"multipart/form-data; boundary=b"}})
				require.ErrorIs(t, err, route.ErrAmbiguous)
			}
		})
	}
}

func TestReadModelFormBoundary(t *testing.T) {
	for contentType, ok := range map[string]bool{
		"multipart/form-data; boundary=b":                true,
		`Multipart/Form-Data; Boundary="b"`:              true,
		"multipart/form-data;boundary=b;":                true,
		"multipart/form-data; charset=utf-8; boundary=b": true,
		"":                                                         false,
		"application/json":                                         false,
		"multipart/form-data":                                      false,
		"multipart/mixed; boundary=b":                              false,
		"multipart/form-data; boundary=":                           false,
		`multipart/form-data; boundary=""`:                         false,
		`multipart/form-data; boundary="b `:                        false,
		`multipart/form-data; boundary="\b"`:                       false,
		`multipart/form-data; boundary="b "`:                       false,
		"multipart/form-data; boundary=b; boundary=c":              false,
		"multipart/form-data; boundary=b; BOUNDARY=c":              false,
		"multipart/form-data; boundary=c, boundary=b":              false,
		"multipart/form-data; boundary*=us-ascii''b":               false,
		"multipart/form-data; boundary*0=b":                        false,
		"multipart/form-data boundary=b":                           false,
		"multipart/form-data; boundary =b":                         false,
		"multipart/form-data; boundary=b; charset=utf-16":          false,
		"multipart/form-data; boundary=" + strings.Repeat("b", 71): false,
		"application/json; multipart/form-data; boundary=b":        false,
	} {
		got, err := readModel(formModel, strings.NewReader(part("model", "m")+end), http.Header{"Content-Type": {contentType}})
		if ok {
			require.NoError(t, err, contentType)
			assert.Equal(t, "m", got)
			continue
		}
		require.ErrorIs(t, err, route.ErrAmbiguous, contentType)
	}
	_, err := readModel(formModel, strings.NewReader(part("model", "m")+end), nil)
	require.ErrorIs(t, err, route.ErrAmbiguous)
}

// A boundary that lies across the edge of what is held at a time is found all
// the same.
func TestReadModelFormAcrossWindows(t *testing.T) {
	for pad := 65_300; pad < 65_600; pad++ {
		body := part("x", strings.Repeat("\r", pad)) + part("model", "m") + end
		got, err := readModel(formModel, strings.NewReader(body), http.Header{"Content-Type": {"multipart/form-data; boundary=b"}})
		require.NoError(t, err, pad)
		require.Equal(t, "m", got)
	}
}

var lists = &models.BodyNeed{
	Format: models.BodyJSON, Fields: []string{"model"}, Each: []string{"models", "tools[].model"}, Absent: []string{"api_base", "*host", "plugins[].*model*", "tools[].parameters.*model*"},
}

func TestReadBodyLists(t *testing.T) {
	for _, test := range []struct {
		body string
		want []models.HTTPField
	}{
		{`{"model":"a","models":["b","c","b"]}`, []models.HTTPField{{Name: "model", Value: "a"}, {Name: "models", List: true, Values: []string{"b", "c"}}}},
		{`{"models":[{"model":"b","n":{"model":1}},"c"]}`, []models.HTTPField{{Name: "models", List: true, Values: []string{"b", "c"}}}},
		{`{"models":{"x":"b","y":"c"}}`, []models.HTTPField{{Name: "models", List: true, Values: []string{"b", "c"}}}},
		{`{"models":[],"tools":[]}`, []models.HTTPField{{Name: "models", List: true}}},
		{`{"models":null,"tools":null}`, nil},
		{`{"tools":[{"type":"x","model":"b"},{"function":{"model":"z"}},1,{"model":null}]}`, []models.HTTPField{{Name: "tools[].model", List: true, Values: []string{"b"}}}},
		{`{"tools":[{"parameters":{"type":"object","properties":{"model":{"type":"string"}}}},{"parameters":null},{"parameters":["model"]}]}`, nil},
		{`{"plugins":[{"id":"web","engine":"x"}],"model":"a"}`, []models.HTTPField{{Name: "model", Value: "a"}}},
	} {
		for _, r := range []io.Reader{strings.NewReader(test.body), iotest.OneByteReader(strings.NewReader(test.body))} {
			got, err := route.ReadBody(lists, r, http.Header{"Content-Type": {"text/plain"}})
			require.NoError(t, err, test.body)
			assert.Equal(t, test.want, got.Fields, test.body)
			assert.Equal(t, "application/json", got.ContentType)
		}
	}
	for body, code := range map[string]models.ReasonCode{
		`{"models":"b"}`:                                             models.BodyInvalid,
		`{"models":["b",1]}`:                                         models.BodyInvalid,
		`{"models":["b",null]}`:                                      models.BodyInvalid,
		`{"models":[["b"]]}`:                                         models.BodyInvalid,
		`{"models":[""]}`:                                            models.BodyInvalid,
		`{"models":["a,b"]}`:                                         models.BodyInvalid,
		`{"models":[{}]}`:                                            models.BodyInvalid,
		`{"models":[{"model":"b","model":"c"}]}`:                     models.BodyInvalid,
		`{"models":[{"model":1}]}`:                                   models.BodyInvalid,
		`{"models":[{"model":"b","Model":"c"}]}`:                     models.RouteUnmapped,
		`{"models":[{"model":"b","api_base":"c"}]}`:                  models.RouteUnmapped,
		`{"models":{"x":["b"]}}`:                                     models.BodyInvalid,
		`{"models":["b"],"models":["c"]}`:                            models.BodyInvalid,
		`{"models":["b"],"mod\u0065ls":["c"]}`:                       models.BodyInvalid,
		`{"models":["b"],"Models":["c"]}`:                            models.BodyInvalid,
		`{"models":["b"`:                                             models.BodyInvalid,
		`{"models":`:                                                 models.BodyInvalid,
		`{"tools":{"model":"b"}}`:                                    models.BodyInvalid,
		`{"tools":[{"model":["b"]}]}`:                                models.BodyInvalid,
		`{"tools":[{"Model":"b"}]}`:                                  models.RouteUnmapped,
		`{"tools":[{"model":"b","model":"c"}]}`:                      models.BodyInvalid,
		`{"tools":[{"model":"b"}],"tools":[]}`:                       models.BodyInvalid,
		`{"TOOLS":[]}`:                                               models.BodyInvalid,
		`{"tools":[{"parameters":{"model":"b"}}]}`:                   models.RouteUnmapped,
		`{"tools":[{"Parameters":{"Model":"b"}}]}`:                   models.RouteUnmapped,
		`{"tools":[{"parameters":{"x":1,"analysis_models":["b"]}}]}`: models.RouteUnmapped,
		`{"tools":[{"parameters":{"x":`:                              models.BodyInvalid,
		`{"plugins":[{"analysis_models":["b"]}]}`:                    models.RouteUnmapped,
		`{"plugins":{"model":"b"}}`:                                  models.BodyInvalid,
		`{"api_base":null}`:                                          models.RouteUnmapped,
		`{"ApiBase":"x"}`:                                            models.RouteUnmapped,
		`{"remote_host":"x"}`:                                        models.RouteUnmapped,
		`{"models":[` + strings.Repeat(`"x",`, 3) + `"` + strings.Repeat("m", 257) + `"]}`: models.BodyInvalid,
	} {
		_, err := route.ReadBody(lists, strings.NewReader(body), nil)
		require.ErrorIs(t, err, route.ErrAmbiguous, body)
		assert.Equal(t, code, route.Reason(err).Code, body)
	}
	var many []string
	for i := range 33 {
		many = append(many, `"m`+strings.Repeat("x", i)+`"`)
	}
	_, err := route.ReadBody(lists, strings.NewReader(`{"models":[`+strings.Join(many[:32], ",")+`]}`), nil)
	require.NoError(t, err)
	_, err = route.ReadBody(lists, strings.NewReader(`{"models":[`+strings.Join(many, ",")+`]}`), nil)
	require.ErrorIs(t, err, route.ErrAmbiguous)
}

// TestAsRead holds which types a body may have where nobody can change them.
func TestAsRead(t *testing.T) {
	asJSON, asForm := &models.HTTPBody{ContentType: "application/json"}, &models.HTTPBody{ContentType: "multipart/form-data; boundary=b"}
	for said, want := range map[string][2]bool{ // read as JSON, as a form
		"":                                     {true, true},
		"application/json":                     {true, false},
		"Application/JSON; charset=utf-8":      {true, false},
		"application/vnd.api+json":             {true, false},
		"text/plain":                           {true, false},
		"application/json; boundary=b":         {false, false},
		"application/json; x=form":             {false, false},
		"application/x-www-form-urlencoded":    {false, false},
		"application/json, text/plain":         {false, false},
		"application/yaml":                     {false, false},
		"multipart/form-data; boundary=b":      {false, true},
		"multipart/form-data; boundary=\"b\"":  {false, true},
		"multipart/mixed; boundary=b":          {false, false},
		"multipart/form-data; boundary=b; x=y": {false, false},
		"application/json; charset":            {false, false},
	} {
		header := http.Header{}
		if said != "" {
			header.Set("Content-Type", said)
		}
		assert.Equal(t, want, [2]bool{route.AsRead(asJSON, header), route.AsRead(asForm, header)}, said)
	}
}
