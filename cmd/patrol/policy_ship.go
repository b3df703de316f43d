package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"patrol/bundles"
	"patrol/cmd/patrol/config"
	"patrol/policies/engine/workbench"
)

// signing is the key that a command signs with.
type signing struct{ file, algorithm, id, scope string }

func (s *signing) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.file, "signing-key", "", "file with the private key in PEM to sign with, or with HS256 the shared secret")
	cmd.Flags().StringVar(&s.algorithm, "signing-alg", "RS256", "algorithm of the key: RS256, RS384, RS512, PS256, ES256, ES384, ES512 or HS256")
	cmd.Flags().StringVar(&s.id, "key-id", "", "name of the key, by which servers know it (bundle.keys)")
	cmd.Flags().StringVar(&s.scope, "scope", "", "what the signature is for, if servers ask for that (bundle.scope)")
}

// signer reads the key; nil if there is none.
func (s *signing) signer() (*bundles.Signer, error) {
	if s.file == "" {
		if s.id != "" || s.scope != "" {
			return nil, usagef("--key-id and --scope are about a signature: name the key to sign with, with --signing-key")
		}
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	if s.id == "" {
		return nil, usagef("--key-id must name the key, as servers know it (bundle.keys)")
	}
	key, err := bundles.ReadKey(s.id + ":" + s.algorithm + ":" + s.file)
	if err != nil {
		return nil, err
	}
	return bundles.NewSigner(key, s.scope)
}

// shipped tells about an archive that was made, or a bundle that was signed.
func shipped(where string, b *bundles.Bundle) string {
	text := fmt.Sprintf("%s: revision %s, %d files, digest %s", where, b.Revision(), len(b.Files), b.Digest())
	if b.SignedBy != "" {
		text += ", signed with key " + b.SignedBy
	}
	return printable(text) + "\n"
}

func (p *process) policyBuildCommand() *cobra.Command {
	var opts checkFlags
	var key signing
	var to, revision string
	cmd := &cobra.Command{
		Use:   "build [folder or archive]",
		Short: "Check a policy and make the archive that is shipped, signed or not",
		Long: `Check a policy as 'patrol policy check' does and, if it passes, make the archive that servers take: the policy, its tests, which
servers run once more, and its capabilities.json. The same files make the same archive, byte by byte, so that everybody can build it again and compare.

Without --revision the revision is the one in the manifest, and without that a digest of the policy's files. In CI, name the commit.

The exit status is 0 if the archive is written, 1 if the policy does not pass, 2 if something went wrong.`,
		Example: `  patrol policy build my-policy -o policy.tar.gz
  patrol policy build my-policy --revision "$(git rev-parse --short HEAD)" --signing-key release.key --key-id release
  patrol policy build active -o in-force.tar.gz`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usagef("--output must name a file, or - for standard output")
			}
			if err := readCheckOptions(&opts); err != nil {
				return err
			}
			signer, err := key.signer()
			if err != nil {
				return err
			}
			b, err := p.readPolicy(cmd, args, nil)
			if err != nil {
				return err
			}
			if b, err = buildPolicy(cmd, policyFiles{b.Source, pathOf(args)}, b, revision, opts); err != nil {
				return err
			}
			if signer != nil {
				if b, err = signer.SignArchive(cmd.Context(), b.Name, b.Archive); err != nil {
					return err
				}
			}
			where := cmd.OutOrStdout()
			if to == "-" {
				if terminal(where) != nil {
					return usagef("an archive is not for a terminal: name a file with --output")
				}
				if _, err := where.Write(b.Archive); err != nil {
					return fmt.Errorf("write the archive: %w", err)
				}
				where = cmd.ErrOrStderr()
			} else if err := replaceFile(to, b.Archive); err != nil {
				return err
			}
			_, err = fmt.Fprint(where, shipped(to, b))
			return err
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "policy.tar.gz", "file to write, or - for standard output")
	cmd.Flags().StringVar(&revision, "revision", "", "revision to give the policy, such as the commit or the version")
	key.addFlags(cmd)
	addCheckOptions(cmd, &opts)
	return cmd
}

// buildPolicy builds and checks what is shipped. Why it does not pass goes to standard
// error.
func buildPolicy(cmd *cobra.Command, files policyFiles, b *bundles.Bundle, revision string, opts checkFlags) (*bundles.Bundle, error) {
	built, err := bundles.Build(cmd.Context(), b, revision)
	unbuilt, isBad := errors.AsType[*bundles.BadBundleError](err)
	switch {
	case isBad:
		built = b // whose check says why, and where
	case err != nil:
		return nil, err
	}
	built.Waive = b.Waive
	opts.permit(&built.Source)
	report, err := workbench.Check(cmd.Context(), built.Source, opts.CheckOptions)
	if err != nil {
		return nil, err
	}
	if report.Passed && isBad {
		return nil, unbuilt
	}
	if !report.Passed {
		if err := printReport(output{w: cmd.ErrOrStderr()}, files, report); err != nil {
			return nil, err
		}
		return nil, errDenied
	}
	return built, nil
}

func (p *process) policySignCommand() *cobra.Command {
	var key signing
	cmd := &cobra.Command{
		Use:   "sign <folder or archive>",
		Short: "Sign a policy where it lies",
		Long: `Sign all files of an archive, or of a folder but for its folders whose names start with a dot. The signature is put into .signatures.json, as 'opa sign' does, in place of one that
is there. Servers whose bundle.keys have the key take the bundle; so does OPA an archive.`,
		Example: `  patrol policy sign policy.tar.gz --signing-key release.key --signing-alg ES256 --key-id release`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key.file == "" {
				return usagef("--signing-key must name the file of the key to sign with")
			}
			signer, err := key.signer()
			if err != nil {
				return err
			}
			b, err := signPolicy(cmd.Context(), signer, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), shipped(args[0], b))
			return err
		},
	}
	key.addFlags(cmd)
	return cmd
}

func signPolicy(ctx context.Context, signer *bundles.Signer, path string) (*bundles.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		b, signature, err := signer.SignFolder(ctx, path)
		if err != nil {
			return nil, err
		}
		return b, replaceFile(filepath.Join(path, bundles.SignaturesFile), signature)
	}
	b, err := bundles.Read(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	if b, err = signer.SignArchive(ctx, path, b.Archive); err != nil {
		return nil, err
	}
	return b, replaceFile(path, b.Archive)
}

func (p *process) policyVerifyCommand() *cobra.Command {
	var out output
	var keys config.Bundle
	cmd := &cobra.Command{
		Use:   "verify [folder or archive]",
		Short: "Check whether a policy is signed, as a server with these keys does",
		Long: `Check whether a policy is signed with one of the keys, and is as it was signed. The keys are those of --key, and without any those of the settings (bundle.keys).

The exit status is 0 if it is, 1 if not, 2 if something went wrong.`,
		Example: `  patrol policy verify policy.tar.gz --key release:RS256:release.pem
  patrol policy verify active --config /etc/patrol/patrol.yaml`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(keys.Keys) == 0 {
				cfg, err := p.settings(cmd)
				if err != nil {
					return err
				}
				if keys.Keys = cfg.Bundle.Keys; !cmd.Flags().Changed("scope") {
					keys.Scope = cfg.Bundle.Scope
				}
			}
			verifier, err := policyVerifier(keys)
			if err != nil {
				return err
			}
			if verifier == nil {
				return usagef("name the keys to verify with: --key release:RS256:release.pem, or bundle.keys in the settings")
			}
			b, err := p.readPolicy(cmd, args, verifier)
			if bad, ok := errors.AsType[*bundles.BadBundleError](err); ok && bad.Signature {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), printable(err.Error()))
				return errDenied
			}
			if err != nil {
				return err
			}
			if b.SignedBy == "" {
				return usagef("the bundle inside this program is vouched for by the program; name a folder or an archive")
			}
			if out.json() {
				return out.printJSON(map[string]string{"signed_by": b.SignedBy, "revision": b.Revision(), "digest": b.Digest(), "archive_digest": bundles.ArchiveDigest(b.Archive)})
			}
			return out.printf("%s", shipped(b.Name, b))
		},
	}
	cmd.Flags().StringArrayVar(&keys.Keys, "key", nil, "key to verify with, as id:algorithm:file; the file has the public key in PEM, or with HS256 the shared secret; repeat for more")
	cmd.Flags().StringVar(&keys.Scope, "scope", "", "what the signature must be for (bundle.scope)")
	addOutput(cmd, &out)
	return cmd
}
