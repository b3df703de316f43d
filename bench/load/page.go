package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// write writes the results as a page of the documents, with a picture beside it.
func (r *results) write(o options) error {
	picture := strings.TrimSuffix(filepath.Base(o.write), ".md") + ".svg"
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Performance

Ratios of one run, each between things that were measured in turns on the same machine; absolute figures of one machine say little
about another. CPU is user and system time of the server alone. `+"`make bench`"+` measures them again, writes this page, and fails if one
is over what is promised.

| what | here | promised: at most |
| --- | ---: | ---: |
`)
	for _, bar := range r.bars() {
		fmt.Fprintf(&b, "| %s | %s%s | %s%s |\n", bar.text, figure(bar.got), bar.unit, figure(bar.most), bar.unit)
	}
	fmt.Fprintf(&b, "\n![CPU per request of each server](images/%s)\n", picture)
	fmt.Fprintf(&b, `
## The figures behind them

%d tokens of ten scopes, %d connections, %d rounds of %d requests to each server; medians. %s/%s, %d CPUs, %s.

| server | requests/s | p50 | p99 | CPU per request |
| --- | ---: | ---: | ---: | ---: |
`, o.tokens, o.connections, o.rounds, o.requests, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, s := range r.servers {
		fmt.Fprintf(&b, "| %s | %.0f | %s | %s | %s |\n", s.name, median(s.perSecond), micros(median(s.p50)), micros(median(s.p99)), micros(median(s.cpu)))
	}
	b.WriteString("\n| evaluation | CPU | allocations | CPU before |\n| --- | ---: | ---: | ---: |\n")
	for _, j := range r.cases {
		got := middle(j.samples)
		fmt.Fprintf(&b, "| %s | %s | %d | %s |\n", j.Name, micros(got.CPU), got.Allocs, micros(middle(j.before).CPU))
	}
	b.WriteString(`
*Before* is the default policy and its evaluation by OPA's topdown as they were before plans were compiled, kept in ` + "`bench/frozen`" + `.
The constant handler is a Gin handler that reads the request and answers bytes. OPA's REST server is sent all that the policy judges,
or, with the minimal policy, has the tokens as data. The gateway and ` + "`httputil.ReverseProxy`" + ` forward to the same upstream.
`)
	if err := os.WriteFile(o.write, b.Bytes(), 0o644); err != nil {
		return err
	}
	images := filepath.Join(filepath.Dir(o.write), "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(images, picture), r.picture(), 0o644)
}

// picture draws the CPU time per request of each server as bars.
func (r *results) picture() []byte {
	const left, width, height = 230, 420, 26
	most := time.Duration(1)
	for _, s := range r.servers {
		most = max(most, median(s.cpu))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13" role="img">`+"\n", left+width+80, height*len(r.servers)+10)
	b.WriteString("<title>CPU per request of each server</title>\n")
	for i, s := range r.servers {
		y, long := 5+height*i, int(float64(width)*ratio(median(s.cpu), most))
		color := "#9aa5b1"
		if strings.HasPrefix(s.name, "patrol") || strings.HasPrefix(s.name, "gateway") {
			color = "#2563eb"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#6b7280">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d" fill="#6b7280">%s</text>`+"\n",
			left-8, y+17, html.EscapeString(s.name), left, y+3, long, height-6, color, left+long+6, y+17, micros(median(s.cpu)))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
