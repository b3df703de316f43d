package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// releases are the platforms that archives are built for.
var releases = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// build holds the inputs of one release.
type build struct {
	out, stage string
	version    string
	date       time.Time
	ldflags    string
	nfpm, sbom string
	log        io.Writer
	environ    []string
	own        string // the program for this machine, which writes completions and the manual
}

func run(ctx context.Context, args []string, log io.Writer) (err error) {
	b := build{log: log, environ: os.Environ()}
	var platforms, date, stamp string
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	flags.StringVar(&b.out, "out", "dist", "folder to write to; it is emptied")
	flags.StringVar(&b.version, "version", "", "version, without a v")
	flags.StringVar(&date, "date", "", "time of the commit, RFC 3339")
	flags.StringVar(&stamp, "stamp", "", "flags of the linker that say which build it is")
	flags.StringVar(&platforms, "platforms", strings.Join(releases, ","), "which to build for")
	flags.StringVar(&b.nfpm, "nfpm", "", "the program nfpm; none: no packages")
	flags.StringVar(&b.sbom, "cyclonedx-gomod", "", "the program cyclonedx-gomod; none: no list of components")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.version == "" {
		return errors.New("-version is required: there is no commit to take it from")
	}
	if b.date, err = time.Parse(time.RFC3339, date); err != nil {
		return fmt.Errorf("-date: %w", err)
	}
	b.ldflags = "-s -w -buildid= " + stamp
	if err := os.RemoveAll(b.out); err != nil {
		return err
	}
	if b.stage, err = os.MkdirTemp("", "patrol-dist-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.stage)) }()
	if err := os.MkdirAll(b.out, 0o755); err != nil { //nolint:gosec // it holds what is published
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for platform := range strings.SplitSeq(platforms, ",") {
		if !slices.Contains(releases, platform) {
			return fmt.Errorf("%q is none of %s", platform, strings.Join(releases, ", "))
		}
		if err := b.platform(ctx, platform); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	if err := b.components(ctx); err != nil {
		return err
	}
	return b.checksums()
}

// call runs a program.
func (b *build) call(ctx context.Context, environ []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the Makefile names the programs
	cmd.Env = append(slices.Clone(b.environ), environ...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}

// compile builds the program for a platform; "/" for this machine.
func (b *build) compile(ctx context.Context, platform, to string) error {
	goos, goarch, _ := strings.Cut(platform, "/")
	environ := []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false"}
	if goos != "" {
		environ = append(environ, "GOOS="+goos, "GOARCH="+goarch)
	}
	return b.call(ctx, environ, "go", "build", "-tags", "nomsgpack", "-ldflags", b.ldflags, "-o", to, "./cmd/patrol")
}

// prepare makes what is the same for all platforms.
func (b *build) prepare(ctx context.Context) error {
	b.own = filepath.Join(b.stage, "own")
	if err := b.compile(ctx, "", b.own); err != nil {
		return err
	}
	completions := filepath.Join(b.stage, "completions")
	if err := os.MkdirAll(completions, 0o755); err != nil { //nolint:gosec // likewise
		return err
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		text, err := exec.CommandContext(ctx, b.own, "completion", shell).Output() //nolint:gosec // it was built above
		if err != nil {
			return fmt.Errorf("completion %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(completions, "patrol."+shell), text, 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	unit, err := os.ReadFile("examples/systemd/patrol.service")
	if err != nil {
		return err
	}
	packaged := strings.ReplaceAll(string(unit), "/usr/local/bin/patrol", "/usr/bin/patrol")
	packaged = strings.ReplaceAll(packaged, "README.md says how to install it.", "It is not enabled by itself: systemctl enable --now patrol")
	if err := os.WriteFile(filepath.Join(b.stage, "patrol.service"), []byte(packaged), 0o644); err != nil { //nolint:gosec // likewise
		return err
	}
	return b.call(ctx, nil, b.own, "man", filepath.Join(b.stage, "man"))
}

// platform makes the files of a platform.
func (b *build) platform(ctx context.Context, platform string) error {
	goos, goarch, _ := strings.Cut(platform, "/")
	name := "patrol"
	if goos == "windows" {
		name += ".exe"
	}
	program := filepath.Join(b.stage, name)
	if err := b.compile(ctx, platform, program); err != nil {
		return err
	}
	if err := b.archive(goos, goarch, program); err != nil {
		return err
	}
	if goos != "linux" || b.nfpm == "" {
		return nil
	}
	template, err := os.ReadFile("packaging/nfpm.yaml")
	if err != nil {
		return err
	}
	text := strings.NewReplacer("arch: ARCH", "arch: "+goarch, "version: VERSION", "version: "+b.version, "mtime: DATE", "mtime: "+b.date.UTC().Format(time.RFC3339),
		"STAGE/", b.stage+"/").Replace(string(template))
	config := filepath.Join(b.stage, "nfpm.yaml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil { //nolint:gosec // likewise
		return err
	}
	for _, packager := range []string{"deb", "rpm"} {
		if err := b.call(ctx, []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.date.Unix())}, b.nfpm, "package", "--config", config, "--packager", packager, "--target", b.out+"/"); err != nil {
			return err
		}
	}
	return nil
}

// components writes the list of what the program is made of.
func (b *build) components(ctx context.Context) error {
	if b.sbom == "" {
		return nil
	}
	to := filepath.Join(b.out, "patrol_"+b.version+"_sbom.cdx.json")
	// Go writes down in a program which modules it is made of.
	return b.call(ctx, nil, b.sbom, "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", b.version, "-output", to, b.own)
}

// checksums writes the digests of all files, in the form of sha256sum.
func (b *build) checksums() error {
	entries, err := os.ReadDir(b.out)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(b.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(b.out, "checksums.txt"), []byte(list.String()), 0o644) //nolint:gosec // likewise
}
