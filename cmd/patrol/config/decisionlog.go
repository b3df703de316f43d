package config

import (
	"strings"
	"time"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/decisionlog"
)

// DecisionLog sets which decisions are kept, and where.
type DecisionLog struct {
	Database       bool          `key:"database" doc:"Keep decisions in a database. Pages, advice and replay read them there."`
	DatabaseURL    URL           `key:"database_url" default:"beside the database" doc:"Database for decisions, as database.url. Empty: with PostgreSQL the same; with SQLite a file beside it, since its one writer must not wait for this one."`
	Retention      time.Duration `key:"retention" doc:"How long the database keeps decisions, at most: max_rows may cut that short, which is told."`
	MaxRows        int           `key:"max_rows" doc:"Most decisions that the database keeps. Beyond that, the oldest decisions go of the users, and of their tokens, that have the most; those of others stay. 0: any number. A million take some 400 MB."`
	RefusedRows    int           `key:"refused_max_rows" doc:"Of max_rows, most that are about no token that verified. Never more than an eighth of it. 0: an eighth."`
	RefusedCounts  int           `key:"refused_max_counts" doc:"Most counts of such refusals by address and minute; older ones are added up by the hour. 0: any number."`
	Addresses      int           `key:"refused_addresses" doc:"Addresses (IPv4, or IPv6 /64) that such refusals are counted by in a minute; beyond that, as many networks (IPv4 /16, IPv6 /32), and the rest together."`
	Samples        int           `key:"refused_samples" doc:"Refusals without a token that verifies that are kept of each address and minute; all are counted. A batch is one."`
	SamplesInAll   int           `key:"refused_samples_total" doc:"The same for all addresses together."`
	CountRetention time.Duration `key:"count_retention" doc:"How long the database keeps what decisions add up to, by day and token; advice on unused scopes reaches back as far."`
	File           string        `key:"file" doc:"File for decisions, one JSON object to a line. Refusals without a token that verifies get into a file beside it, an eighth of its size, with -refused in its name. Empty: none."`
	FileMaxSize    Size          `key:"file_max_size" doc:"Size at which the file is renamed and a new one begun."`
	FileMaxAge     time.Duration `key:"file_max_age" doc:"Age at which the same happens."`
	FileMaxFiles   int           `key:"file_max_files" doc:"Most renamed files that are kept."`
	Endpoint       URL           `key:"endpoint" doc:"URL that batches of decisions are posted to, gzipped JSON arrays, as OPA does. Empty: nowhere."`
	EndpointToken  secret.Text   `key:"endpoint_token" doc:"Sent to the endpoint as a Bearer token."`
	EndpointBatch  Size          `key:"endpoint_batch" doc:"Largest batch, before it is gzipped."`
	EndpointWait   time.Duration `key:"endpoint_timeout" doc:"Time for the endpoint to take a batch."`
	Buffer         Size          `key:"buffer" doc:"Memory for decisions that wait to be written, and again for each place that they go to. If it is full, those of the token that has the most of it are dropped, allowances before denials. An eighth more is for refusals without a token that verifies."`
	FlushInterval  time.Duration `key:"flush_interval" doc:"How long decisions gather before they are written; on a busy server up to six times as long."`
}

func defaultDecisionLog() DecisionLog {
	d := decisionlog.DefaultConfig()
	return DecisionLog{
		Database: true, Retention: d.Retention, MaxRows: int(d.MaxRows), CountRetention: d.CountRetention,
		FileMaxSize: Size(d.File.MaxSize), FileMaxAge: d.File.MaxAge, FileMaxFiles: d.File.MaxFiles,
		EndpointBatch: Size(d.Endpoint.BatchSize), EndpointWait: d.Endpoint.Timeout,
		Buffer: Size(d.Buffer), FlushInterval: d.FlushInterval,
		RefusedRows: int(d.Refused.MaxRows), RefusedCounts: int(d.Refused.MaxCounts), Addresses: d.Refused.Addresses,
		Samples: d.Refused.Samples, SamplesInAll: d.Refused.SamplesInAll,
	}
}

// On reports whether decisions are kept at all.
func (d DecisionLog) On() bool { return d.Database || d.File != "" || d.Endpoint != "" }

// DecisionLogConfig translates the settings for the decision log.
func (c Config) DecisionLogConfig() decisionlog.Config {
	d := c.DecisionLog
	return decisionlog.Config{
		Required: c.Decisions.Required, Wait: c.Decisions.RecordWait,
		FlushInterval: d.FlushInterval, Buffer: int64(d.Buffer),
		Retention: d.Retention, MaxRows: int64(d.MaxRows), CountRetention: d.CountRetention,
		Refused: decisionlog.RefusedConfig{
			Addresses: d.Addresses, Samples: d.Samples, SamplesInAll: d.SamplesInAll, MaxRows: int64(d.RefusedRows), MaxCounts: int64(d.RefusedCounts),
		},
		File: decisionlog.FileConfig{
			Path: d.File, MaxSize: int64(d.FileMaxSize), MaxAge: d.FileMaxAge, MaxFiles: d.FileMaxFiles, Sync: c.Decisions.Required,
		},
		Endpoint: decisionlog.EndpointConfig{
			URL: d.Endpoint.Reveal(), Token: d.EndpointToken.Reveal(), BatchSize: int(d.EndpointBatch), Timeout: d.EndpointWait,
		},
	}
}

// DecisionsDatabase returns the URL of the database that decisions are kept in.
func (c Config) DecisionsDatabase() URL {
	if c.DecisionLog.DatabaseURL != "" {
		return c.DecisionLog.DatabaseURL
	}
	return URL(store.DecisionsURL(c.Database.URL.Reveal()))
}

func (d DecisionLog) validate(v *models.Invalid) {
	if d.DatabaseURL != "" {
		var inner models.Invalid
		Database{URL: d.DatabaseURL}.validate(&inner)
		if inner.Err() != nil {
			v.Add("decision_log.database_url", "must be sqlite://<path> or postgres://user:password@host/name")
		}
	}
	checkDuration("decision_log.retention", d.Retention, time.Minute, 0, v)
	checkCount("decision_log.max_rows", d.MaxRows, 0, v)
	checkCount("decision_log.refused_max_rows", d.RefusedRows, 0, v)
	checkCount("decision_log.refused_max_counts", d.RefusedCounts, 0, v)
	checkCount("decision_log.refused_addresses", d.Addresses, 1, v)
	checkCount("decision_log.refused_samples", d.Samples, 0, v)
	checkCount("decision_log.refused_samples_total", d.SamplesInAll, 0, v)
	checkDuration("decision_log.count_retention", d.CountRetention, 24*time.Hour, 0, v)
	if d.FileMaxSize < 1<<20 {
		v.Add("decision_log.file_max_size", "must be at least 1MiB")
	}
	checkDuration("decision_log.file_max_age", d.FileMaxAge, time.Minute, 0, v)
	checkCount("decision_log.file_max_files", d.FileMaxFiles, 0, v)
	if strings.HasSuffix(d.File, "/") {
		v.Add("decision_log.file", "must be the path of a file")
	}
	if d.Endpoint != "" {
		checkURL("decision_log.endpoint", d.Endpoint, v)
	}
	checkHeaderValue("decision_log.endpoint_token", d.EndpointToken, v)
	if d.EndpointToken != "" && d.Endpoint == "" {
		v.Add("decision_log.endpoint_token", "there is no endpoint to send it to: set decision_log.endpoint")
	}
	if d.EndpointBatch < 4<<10 || d.EndpointBatch > d.Buffer {
		v.Add("decision_log.endpoint_batch", "must be at least 4KiB, and at most decision_log.buffer")
	}
	checkDuration("decision_log.endpoint_timeout", d.EndpointWait, 10*time.Millisecond, 0, v)
	if d.Buffer < 64<<10 {
		v.Add("decision_log.buffer", "must be at least 64KiB")
	}
	checkDuration("decision_log.flush_interval", d.FlushInterval, time.Millisecond, time.Minute, v)
}
