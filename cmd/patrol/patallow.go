package main

import (
	"github.com/spf13/cobra"

	"patrol/api"
)

func (p *process) patAllowIPsCommand() *cobra.Command {
	c := &client{process: p}
	var anywhere bool
	cmd := &cobra.Command{
		Use:   "allow-ips <id or name> <address or range>... | --anywhere",
		Short: "Say from which addresses a token works",
		Long: `Say from which addresses and ranges (CIDR) a token works, in place of those that it has. From everywhere else its use is refused as ip_forbidden,
and the audit log notes it. With --anywhere it works from everywhere again. More addresses than before need a recent sign-in.`,
		Example: `  patrol pat allow-ips ci 203.0.113.0/24 2001:db8::/32
  patrol pat allow-ips ci --anywhere`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || anywhere == (len(args) > 1) {
				return usagef("name a token, and its addresses or --anywhere")
			}
			return nil
		},
		ValidArgsFunction: c.completePATs(preferAlive, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			pat, err := c.find(cmd.Context(), args[0], preferAlive)
			if err != nil {
				return err
			}
			allowed := append([]string{}, args[1:]...)
			err = c.freshly(cmd.Context(), func() (err error) {
				pat, err = c.api.UpdatePAT(cmd.Context(), pat.ID, api.PATPatch{AllowedIPs: &allowed})
				return err
			})
			if err != nil {
				return c.signedIn(err)
			}
			return c.print(pat)
		},
	}
	cmd.Flags().BoolVar(&anywhere, "anywhere", false, "let it work from everywhere again")
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}
