package main

import (
	"patrol/cmd/patrol/config"
	"patrol/server/gateway"
)

// gatewayConfig translates the settings for the gateway.
func gatewayConfig(cfg config.Config) gateway.Config {
	c := gateway.DefaultConfig()
	c.PublicURL = cfg.PublicURL.Reveal()
	c.MaxJSONBody, c.MaxMultipartBody = int64(cfg.Gateway.MaxJSONBody), int64(cfg.Gateway.MaxMultipartBody)
	c.BodyMemory, c.BodyDisk, c.TempDir = int64(cfg.Gateway.BodyMemory), int64(cfg.Gateway.BodyDisk), cfg.Gateway.BodyDir
	c.BodyPause, c.TokenShare = cfg.Gateway.BodyPause, cfg.Gateway.TokenShare
	c.MaxInFlight = cfg.Gateway.MaxInFlight
	c.BodyTimeout, c.DialTimeout = cfg.Gateway.BodyTimeout, cfg.Gateway.DialTimeout
	c.HeaderTimeout, c.MaxStream = cfg.Gateway.HeaderTimeout, cfg.Gateway.MaxStream
	c.IdleTimeout = cfg.Gateway.IdleTimeout
	c.KeyHeaders, c.Origins = cfg.Gateway.APIKeyHeaders, cfg.Gateway.Origins
	c.PreflightAge, c.KeepAlive = cfg.Gateway.PreflightAge, cfg.Gateway.KeepAlive
	c.Upstreams = map[string]gateway.Upstream{}
	for domain, u := range cfg.AllUpstreams() {
		c.Upstreams[domain] = gateway.Upstream{
			URL: u.URL.Reveal(), Headers: u.Headers, Credential: u.Credential, CredentialHeader: u.CredentialHeader,
		}
	}
	return c
}
