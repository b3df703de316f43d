package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patrol/cmd/patrol/config"
	"patrol/internal/certificate"
	"patrol/internal/disk"
	"patrol/internal/private"
)

// checkFiles looks at the rights of what is nobody else's business.
func (d *doctor) checkFiles() {
	wrong := 0
	for _, path := range privateFiles(d.cfg) {
		text, grave := private.Look(path)
		if text == "" {
			continue
		}
		wrong++
		found, do, _ := strings.Cut(text, ": ")
		result := warning
		if grave && !d.cfg.OpenFiles && path != d.cfg.SettingsFile() {
			result = failed
		}
		d.add("files", result, found, do)
	}
	info, err := os.Stat(d.cfg.DataDir)
	switch {
	case os.IsNotExist(err):
		d.add("files", skipped, "there is no data folder "+d.cfg.DataDir+" yet", "'patrol serve' makes it; if it should be there, name it with data_dir")
		return
	case err != nil:
		d.add("files", failed, explain(err), "give the server's user the folder")
		return
	case !info.IsDir():
		d.add("files", failed, d.cfg.DataDir+" is no folder", "name a folder with data_dir")
		return
	}
	probe, err := os.CreateTemp(d.cfg.DataDir, ".doctor-*")
	if err != nil {
		d.add("files", failed, "this user cannot write into the data folder: "+explain(err), "run this as the server's user, or give that user the folder "+d.cfg.DataDir)
		return
	}
	name := probe.Name()
	if probe.Close() != nil || os.Remove(name) != nil {
		d.add("files", failed, "the file "+name+" could not be removed again", "remove it, and look at the rights of its folder")
		return
	}
	if wrong == 0 {
		d.add("files", well, "what holds secrets is open to nobody else, and the data folder can be written", "")
	}
}

const (
	scarce = 1 << 30   // bytes left on a disk of which there is a warning
	full   = 100 << 20 // and with which the server is about to fail
)

// checkDisks looks at the room where the server writes.
func (d *doctor) checkDisks() {
	places := []string{d.cfg.DataDir, d.cfg.TombstonesPath(), d.cfg.DecisionLog.File, d.cfg.Gateway.BodyDir}
	if d.cfg.Gateway.BodyDir == "" {
		places[3] = os.TempDir()
	}
	for _, url := range []config.URL{d.cfg.Database.URL, d.cfg.DecisionsDatabase()} {
		if path, ok := strings.CutPrefix(url.Reveal(), "sqlite://"); ok {
			places = append(places, filepath.Dir(path))
		}
	}
	slices.Sort(places)
	told := map[disk.Room]bool{} // what looks alike is one disk
	for _, place := range slices.Compact(places) {
		if place == "" {
			continue
		}
		room, ok := disk.At(place)
		if !ok || told[room] {
			continue
		}
		told[room] = true
		found := fmt.Sprintf("%s has %.1f GiB free of %.0f", place, float64(room.Free)/(1<<30), float64(room.Total)/(1<<30))
		switch {
		case room.Free < full:
			d.add("disk", failed, found, "make room: without it tokens can be neither made nor revoked")
		case room.Free < scarce:
			d.add("disk", warning, found, "make room, or shorten decision_log.retention")
		default:
			d.add("disk", well, found, "")
		}
	}
}

// checkLimits holds the connections that the settings permit against the files that a
// process may open.
func (d *doctor) checkLimits() {
	most, ok := mostOpenFiles()
	needed := uint64(d.cfg.HTTP.MaxConnections + d.cfg.ExtAuthz.MaxConnections + d.cfg.Gateway.MaxInFlight) //nolint:gosec // settings are not negative
	switch {
	case !ok:
	case most < needed:
		d.add("limits", warning, fmt.Sprintf("this process may open %d files, and the settings permit %d connections", most, needed),
			fmt.Sprintf("raise the limit (LimitNOFILE=%d in a systemd unit), or lower http.max_connections, extauthz.max_connections and gateway.max_in_flight", needed+1024))
	default:
		d.add("limits", well, fmt.Sprintf("%d open files are enough for %d connections", most, needed), "")
	}
}

// soon is the time before its end at which a certificate should have been renewed.
const soon = 14 * 24 * time.Hour

// checkTLS looks at certificates, and at what is not encrypted.
func (d *doctor) checkTLS() {
	names := []string{}
	if u, err := url.Parse(string(d.cfg.PublicURL)); err == nil && u.Scheme == "https" {
		names = append(names, u.Hostname())
	}
	switch t := d.cfg.TLS; {
	case t.CertFile != "":
		d.checkCertificate("HTTP", certificate.Files{Cert: t.CertFile, Key: t.KeyFile}, names...)
	case !onLoopback(d.cfg.Listen) && len(d.cfg.TrustedProxies) == 0:
		d.add("tls", warning, d.cfg.Listen+" is reached from other machines without TLS: passwords and tokens can be read on the way",
			"set tls.cert_file and tls.key_file, or put a proxy with TLS in front and name it in trusted_proxies")
	case strings.HasPrefix(string(d.cfg.PublicURL), "http://") && !onLoopback(strings.TrimPrefix(string(d.cfg.PublicURL), "http://")):
		d.add("tls", warning, "public_url is not https: browsers send cookies and passwords that can be read on the way", "serve people over https, and say so in public_url")
	default:
		d.add("tls", well, "the HTTP listener has no certificate, and needs none: it is for this machine or behind a proxy", "")
	}
	switch e := d.cfg.ExtAuthz; {
	case d.cfg.GRPCListen == "":
	case e.CertFile != "":
		d.checkCertificate("gRPC", certificate.Files{Cert: e.CertFile, Key: e.KeyFile, ClientCA: e.ClientCAFile})
		if e.ClientCAFile == "" && !onLoopback(d.cfg.GRPCListen) {
			d.add("tls", warning, "whoever reaches "+d.cfg.GRPCListen+" can ask as Envoy does", "set extauthz.client_ca_file, or let only Envoy reach it")
		}
	case !onLoopback(d.cfg.GRPCListen):
		d.add("tls", warning, d.cfg.GRPCListen+" answers Envoy on other machines without TLS: tokens can be read on the way", "set extauthz.cert_file, key_file and client_ca_file; examples/envoy has certs.sh to try it")
	}
}

func (d *doctor) checkCertificate(listener string, files certificate.Files, names ...string) {
	watched, err := certificate.Load(listener, files)
	if err != nil {
		d.add("tls", failed, explain(err), "name a certificate and its key, in PEM, that this user can read")
		return
	}
	leaf, err := leafOf(watched)
	if err != nil {
		d.add("tls", failed, fmt.Sprintf("%s: %v", files.Cert, err), "name a certificate in PEM")
		return
	}
	left := leaf.NotAfter.Sub(d.now)
	found := fmt.Sprintf("the certificate %s of the %s listener is good until %s", files.Cert, listener, leaf.NotAfter.UTC().Format(time.DateOnly))
	result, do := well, ""
	switch {
	case left <= 0:
		result, found, do = failed, strings.Replace(found, "is good until", "ended on", 1), "renew it; it is read again when the file changes"
	case leaf.NotBefore.After(d.now):
		result, found, do = failed, fmt.Sprintf("the certificate %s is not good before %s", files.Cert, leaf.NotBefore.UTC().Format(time.DateTime)), "set the clock, or take another certificate"
	case left < soon:
		result, do = warning, "renew it; it is read again when the file changes"
	}
	d.add("tls", result, found, do)
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			d.add("tls", failed, fmt.Sprintf("the certificate %s is not for %s, the host of public_url: %v", files.Cert, name, err), "take one that is, or correct public_url")
		}
	}
}

func leafOf(w *certificate.Watched) (*x509.Certificate, error) {
	cfg, err := w.Config().GetConfigForClient(&tls.ClientHelloInfo{})
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(cfg.Certificates[0].Certificate[0])
}

// onLoopback reports whether an address, host:port or a URL's host, is reached from this
// machine alone.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "/[]")
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkProxies looks at whose word about the client is taken.
func (d *doctor) checkProxies() {
	wrong := 0
	for _, list := range []struct {
		key   string
		value []string
	}{
		{"trusted_proxies", d.cfg.TrustedProxies},
		{"trusted_callers", d.cfg.TrustedCallers},
		{"extauthz.trusted_proxies", d.cfg.ExtAuthz.TrustedProxies},
		{"forward_auth.envoy", d.cfg.ForwardAuth.Envoy},
		{"forward_auth.nginx", d.cfg.ForwardAuth.Nginx},
		{"forward_auth.traefik", d.cfg.ForwardAuth.Traefik},
		{"forward_auth.caddy", d.cfg.ForwardAuth.Caddy},
		{"forward_auth.haproxy", d.cfg.ForwardAuth.HAProxy},
	} {
		for _, text := range list.value {
			if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == 0 {
				wrong++
				d.add("proxies", failed, list.key+" has "+text+": everybody can say which client they are", "name the addresses of the proxies alone")
			}
		}
	}
	u, err := url.Parse(string(d.cfg.PublicURL))
	if err == nil && u.Host != "" && !onLoopback(u.Host) && onLoopback(d.cfg.Listen) && len(d.cfg.TrustedProxies) == 0 {
		wrong++
		d.add("proxies", warning, "people reach "+u.Host+" through a proxy on this machine, and trusted_proxies is empty: all clients look like one address",
			"set trusted_proxies to the proxy's address, such as 127.0.0.1, if it sets X-Forwarded-For")
	}
	if d.cfg.Metrics.Public && !onLoopback(d.cfg.Listen) {
		wrong++
		d.add("proxies", warning, "whoever reaches "+d.cfg.Listen+" can read the metrics", "set metrics.listen to an address of their own instead of metrics.public")
	}
	if wrong == 0 {
		d.add("proxies", well, fmt.Sprintf("%d proxies and %d callers are believed", len(d.cfg.TrustedProxies), len(d.cfg.TrustedCallers)), "")
	}
}

// checkUpstreams connects to what the gateway forwards to.
func (d *doctor) checkUpstreams(ctx context.Context) {
	all := d.cfg.AllUpstreams()
	asked := map[string]bool{}
	for _, domain := range slices.Sorted(maps.Keys(all)) {
		u, err := url.Parse(all[domain].URL.Reveal())
		if err != nil || asked[u.Host] {
			continue
		}
		asked[u.Host] = true
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
		within(ctx, func(ctx context.Context) {
			dialer := net.Dialer{Timeout: d.cfg.Gateway.DialTimeout}
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				d.add("upstreams", warning, address+" cannot be reached: "+err.Error(), "start it, or correct upstream and upstreams")
				return
			}
			_ = conn.Close()
			d.add("upstreams", well, address+" takes connections", "")
		})
	}
	if len(all) == 0 {
		d.add("upstreams", skipped, "the gateway has none", "set upstream if /proxy/<domain>/ is to forward to something")
	}
}

// checkServer asks the server on this machine, if there is one.
func (d *doctor) checkServer(ctx context.Context) {
	base, err := ownURL(d.cfg)
	if err != nil {
		d.add("server", skipped, "the port is left to the system", "")
		return
	}
	within(ctx, func(ctx context.Context) {
		health, err := askHealth(ctx, base, false, true)
		switch {
		case err != nil:
			d.add("server", skipped, "none answers at "+base, "'patrol serve' starts one")
		case health.Status == "ok":
			d.add("server", well, base+" answers, and can decide", "")
		default:
			d.add("server", failed, base+": "+healthLine(health), "its log says why: look for \"not ready\"")
		}
	})
}
