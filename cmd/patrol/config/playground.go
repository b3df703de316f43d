package config

import (
	"time"

	"patrol/models"
)

// Playground sets the limits for trials of policies.
type Playground struct {
	Enabled   bool          `key:"enabled" doc:"Whether there is one."`
	PerMinute int           `key:"per_minute" doc:"How many policies one user may try in a minute, on each server."`
	Running   int           `key:"running" doc:"How many are tried at a time, on each server. Others wait a few seconds for their turn."`
	CPUTime   time.Duration `key:"cpu_time" doc:"Longest CPU time for each part of a trial: the answer, decisions that are made again, the tests."`
	Timeout   time.Duration `key:"timeout" doc:"Longest time for all of it by the clock."`
	Memory    Size          `key:"memory" doc:"Most memory for each of its processes."`
	MaxBody   Size          `key:"max_body" doc:"Largest request: the files that were edited, as JSON or as a form."`
	MaxReplay int           `key:"max_replay" doc:"Most recorded decisions that a trial makes again, the latest ones."`
}

func defaultPlayground() Playground {
	return Playground{
		Enabled: true, PerMinute: 20, Running: 2, CPUTime: 10 * time.Second, Timeout: 30 * time.Second,
		Memory: 512 << 20, MaxBody: 1 << 20, MaxReplay: 10_000,
	}
}

func (p Playground) validate(v *models.Invalid) {
	if p.PerMinute < 1 || p.PerMinute > 1000 {
		v.Add("playground.per_minute", "must be from 1 to 1000")
	}
	if p.Running < 1 || p.Running > 64 {
		v.Add("playground.running", "must be from 1 to 64")
	}
	checkDuration("playground.cpu_time", p.CPUTime, time.Second, 10*time.Minute, v)
	checkDuration("playground.timeout", p.Timeout, time.Second, 10*time.Minute, v)
	if p.Memory < 128<<20 {
		v.Add("playground.memory", "must be at least 128MiB")
	}
	if p.MaxBody < 64<<10 || p.MaxBody > 32<<20 {
		v.Add("playground.max_body", "must be from 64KiB to 32MiB")
	}
	if p.MaxReplay < 0 || p.MaxReplay > maxReplayed {
		v.Add("playground.max_replay", "must be from 0 to %d", maxReplayed)
	}
}
