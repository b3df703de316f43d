package config

import (
	"strings"
	"time"

	"patrol/bundles"
	"patrol/internal/secret"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
	"patrol/server/shadow"
)

// Bundle sets the policy's source, and who may read the policy here.
type Bundle struct {
	Interval        time.Duration `key:"interval" doc:"How often a folder or an archive is looked at. A change counts when it is still the same one look later."`
	PollInterval    time.Duration `key:"poll_interval" doc:"How often a URL is asked, more or less, if its server knows no long polling; and the longest pause after failures."`
	LongPoll        time.Duration `key:"long_poll" doc:"How long a server that knows long polling may wait for something new before it answers. 0: it is not asked to."`
	Timeout         time.Duration `key:"timeout" doc:"Time to connect to a URL's server, and again to transfer a bundle."`
	Credential      secret.Text   `key:"credential" doc:"What is sent to a URL's server as Bearer token."`
	CAFile          string        `key:"ca_file" doc:"PEM file with the authorities, one of which must have signed the certificate of a URL's server. Empty: the system's."`
	Keys            []string      `key:"keys" doc:"Keys that bundles must be signed with, each as id:algorithm:path, such as release:RS256:/etc/patrol/release.pem: a public key in PEM, or for HS256 a file with the shared secret. Empty: bundles need no signature. The bundle inside the binary needs none."`
	Scope           string        `key:"scope" doc:"Scope that signatures must be for."`
	ServeCredential secret.Text   `key:"serve_credential" doc:"Bearer token with which edge replicas and OPA may fetch the bundle in force at /api/v1/policy/bundle, at least 32 characters. Empty: only the signed-in policy team may."`
	PlanTrials      int           `key:"plan_trials" doc:"On how many made-up inputs the compiled plan of a policy is held against OPA's own evaluator, beside requests, before it decides; until then, and if they ever differ, OPA's evaluator does, which is slower. 0: the plan never decides."`
}

// Gate sets the requirements for a policy to come into force.
type Gate struct {
	MinCoverage int           `key:"min_coverage" doc:"How much of a policy its own tests must run, in percent of its lines."`
	Waive       []string      `key:"waive" doc:"What policies may waive, if their manifest names it too: domain_disabled, domain_frozen, not_a_member, role_forbids, lifetime_exceeded, wildcard_forbidden, approval_required."`
	TestTimeout time.Duration `key:"test_timeout" doc:"Longest time for one test."`
	CPUTime     time.Duration `key:"cpu_time" doc:"Longest CPU time for the whole check of a policy, in a process of its own."`
	Timeout     time.Duration `key:"timeout" doc:"Longest time for it by the clock."`
	Memory      Size          `key:"memory" doc:"Most memory for it."`
	ReplaySince time.Duration `key:"replay_since" doc:"How far back recorded decisions are made again under a candidate, and compared with what they are under the policy in force. It has as much time and memory as the check once more. 0: none are."`
	ReplayLimit int           `key:"replay_limit" doc:"Most decisions that are made again, the latest ones. Some 10,000 take a few seconds."`
	MaxChanges  int           `key:"max_changes" doc:"How many of them may be newly allowed or newly denied. If it is more, the candidate is refused."`
}

// Shadow is a policy that is judged beside the one in force.
type Shadow struct {
	Policy     string      `key:"policy" doc:"Policy bundle that is judged beside the one in force and never decides: a folder, a .tar.gz archive, or the https:// URL of one. It is followed, signed and checked like 'policy'. Empty: none."`
	Credential secret.Text `key:"credential" doc:"What is sent to the URL's server as Bearer token."`
	Sample     int         `key:"sample" doc:"Share of decisions that are judged again, in percent."`
	CPUShare   int         `key:"cpu_share" doc:"How much of one processor judging may take, in percent. What does not fit is passed over, and counted as dropped."`
	Buffer     Size        `key:"buffer" doc:"Memory for decisions that wait to be judged."`
	Memory     Size        `key:"memory" doc:"Most memory for the process that judges."`
}

func defaultShadow() Shadow {
	d := shadow.DefaultConfig()
	return Shadow{Sample: d.Sample, CPUShare: d.Share, Buffer: Size(d.Buffer), Memory: Size(d.Memory)}
}

// ShadowConfig translates the settings for the shadow.
func (c Config) ShadowConfig() shadow.Config {
	d := shadow.DefaultConfig()
	d.Sample, d.Share, d.Buffer, d.Memory = c.Shadow.Sample, c.Shadow.CPUShare, int64(c.Shadow.Buffer), int64(c.Shadow.Memory)
	return d
}

func (s Shadow) validate(policy string, v *models.Invalid) {
	checkPolicy("shadow.policy", s.Policy, v)
	if s.Policy != "" && s.Policy == policy {
		v.Add("shadow.policy", "is the same as policy: it would decide everything alike")
	}
	checkHeaderValue("shadow.credential", s.Credential, v)
	if s.Credential != "" && !strings.Contains(s.Policy, "://") {
		v.Add("shadow.credential", "there is no server to send it to: set shadow.policy to a URL")
	}
	checkPercent("shadow.sample", s.Sample, v)
	checkPercent("shadow.cpu_share", s.CPUShare, v)
	if s.Buffer < 64<<10 {
		v.Add("shadow.buffer", "must be at least 64KiB")
	}
	if s.Memory < 128<<20 {
		v.Add("shadow.memory", "must be at least 128MiB")
	}
}

func checkPercent(key string, n int, v *models.Invalid) {
	if n < 1 || n > 100 {
		v.Add(key, "must be a percentage from 1 to 100")
	}
}

func defaultBundle() Bundle {
	return Bundle{Interval: time.Second, PollInterval: time.Minute, LongPoll: 30 * time.Second, Timeout: 15 * time.Second, PlanTrials: engine.DefaultTrials}
}

func defaultGate() Gate {
	return Gate{
		MinCoverage: int(workbench.DefaultMinCoverage), TestTimeout: workbench.DefaultTestTimeout,
		CPUTime: time.Minute, Timeout: 3 * time.Minute, Memory: 1 << 30,
		ReplayLimit: 10_000,
	}
}

// maxReplayed is the most decisions that a candidate may have to make again.
const maxReplayed = 1_000_000

// maxPlanTrials bounds bundle.plan_trials. So many take a minute of CPU.
const maxPlanTrials = 1_000_000

// minCredential is the least length of a credential that this server accepts.
const minCredential = 32

func (b Bundle) validate(v *models.Invalid) {
	checkDuration("bundle.interval", b.Interval, 100*time.Millisecond, 0, v)
	checkDuration("bundle.poll_interval", b.PollInterval, time.Second, 0, v)
	checkDuration("bundle.long_poll", b.LongPoll, 0, 10*time.Minute, v)
	checkDuration("bundle.timeout", b.Timeout, time.Second, 0, v)
	checkHeaderValue("bundle.credential", b.Credential, v)
	if b.PlanTrials < 0 || b.PlanTrials > maxPlanTrials {
		v.Add("bundle.plan_trials", "must be 0 to %d", maxPlanTrials)
	}
	for _, key := range b.Keys {
		if strings.Count(key, ":") < 2 {
			v.Add("bundle.keys", "%q is not of the form id:algorithm:path", key)
		}
	}
	if b.Scope != "" && len(b.Keys) == 0 {
		v.Add("bundle.scope", "there is no key to verify a scope with: set bundle.keys")
	}
	if b.ServeCredential != "" {
		switch {
		case len(b.ServeCredential.Reveal()) < minCredential:
			v.Add("bundle.serve_credential", "must have at least %d characters: whoever knows it can read the policy", minCredential)
		case strings.HasPrefix(b.ServeCredential.Reveal(), "patrol"):
			v.Add("bundle.serve_credential", "must not look like a token of Patrol's")
		}
	}
}

func (g Gate) validate(v *models.Invalid) {
	if g.MinCoverage < 0 || g.MinCoverage > 100 {
		v.Add("gate.min_coverage", "must be a percentage")
	}
	if err := workbench.ValidateWaivers(g.Waive); err != nil {
		v.Add("gate.waive", "%s", err)
	}
	checkDuration("gate.test_timeout", g.TestTimeout, 10*time.Millisecond, 0, v)
	checkDuration("gate.cpu_time", g.CPUTime, time.Second, 0, v)
	checkDuration("gate.timeout", g.Timeout, time.Second, 0, v)
	if g.Memory < 128<<20 {
		v.Add("gate.memory", "must be at least 128MiB")
	}
	checkDuration("gate.replay_since", g.ReplaySince, 0, 0, v)
	if g.ReplayLimit < 1 || g.ReplayLimit > maxReplayed {
		v.Add("gate.replay_limit", "must be from 1 to %d", maxReplayed)
	}
	if g.MaxChanges < 0 {
		v.Add("gate.max_changes", "must not be negative")
	}
}

// checkPolicy checks what a setting names that is a policy, without looking at it.
func checkPolicy(key, source string, v *models.Invalid) {
	check := bundles.CheckSource
	if strings.Contains(source, "://") {
		check = bundles.CheckURL
	}
	if err := check(source); err != nil {
		v.Add(key, "%s", err)
	}
}
