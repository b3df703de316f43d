// Package config is what can be set about Patrol: where a setting comes from,
// what it may be, and how it is told.
//
// # Layers
//
// A setting is looked for in flags, then in PATROL_* environment variables, then
// in the YAML file, and else has its default. [Load] reads all four. The name of
// a setting in the environment follows from its key: `tokens.max_lifetime` is
// PATROL_TOKENS_MAX_LIFETIME. An environment variable that is set to nothing
// counts as absent, because that is what compose files and unit files make of a
// variable that nobody filled.
//
// # Mistakes
//
// A key that does not exist is refused, in the file and in the environment: a
// misspelt limit that is silently ignored is worse than a server that does not
// start. Three kinds of PATROL_* variables are passed over: those that the client
// commands read, those of the test suite, and those that Kubernetes makes for a
// Service of this name. All problems are reported at once, each under its key
// and with the layer that it came from; a value that may be secret is never
// repeated.
//
// # Secrets
//
// A setting of type [secret.Text] can be given as it is or, under its key with
// `_file` appended, as the path of a file that holds it. Of the two, the one in
// the higher layer counts. Secrets mask themselves wherever they are printed, and
// a [URL] masks the password inside it.
//
// # One source
//
// The [Config] struct and its tags are the only list of settings. Flags, names
// of environment variables, the output of `patrol config` and the page
// docs/configuration.md are all derived from it.
package config
