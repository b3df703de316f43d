package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"patrol/internal/secret"
	"patrol/models"
)

// FileFlag is the flag that names the YAML file; PATROL_CONFIG does as well.
const FileFlag = "config"

// maxFile bounds the YAML file and each file that holds a secret.
const maxFile = 1 << 20

// AddFlags defines a flag for every setting that has one, and --config.
func AddFlags(flags *pflag.FlagSet) {
	flags.String(FileFlag, "", "YAML file with settings (PATROL_CONFIG)")
	for _, s := range Settings() {
		if s.Flag == "" {
			continue
		}
		usage := strings.TrimSuffix(firstSentence(s.Doc), ".") + " (" + s.Env() + ")"
		if kind := s.Kind; kind == "true or false" {
			flags.Bool(s.Flag, s.Default == "true", usage)
		} else {
			flags.String(s.Flag, "", usage)
			if s.Default != "" { // told in the help, yet absent unless given
				flags.Lookup(s.Flag).DefValue = s.Default
			}
		}
	}
}

// layer is one place that settings come from.
type layer struct {
	name   func(key string) string // how a setting is called there
	values *koanf.Koanf
}

// Load reads the settings from all layers and validates them. flags are those
// of [AddFlags], parsed; environ is in the form of os.Environ. The error names
// every problem that was found.
func Load(flags *pflag.FlagSet, environ []string) (Config, error) {
	c := Default()
	settings := settingsOf(&c)
	l := loader{settings: settings, origins: map[string]string{}, files: map[string]string{}}
	l.addFlags(flags)
	l.addEnv(environ)
	if err := l.addFile(flags, environ); err != nil {
		return Config{}, err
	}
	for _, s := range settings {
		l.fill(s)
	}
	c.keyringFile = l.files["token_keys"]
	c.read = slices.Sorted(maps.Values(l.files))
	c.settingsFile = l.settingsFile
	if c.Database.URL == "" {
		c.Database.URL = SQLiteIn(c.DataDir)
	}
	// A value that could not be read has been reported; validating the default
	// in its place could only confuse.
	unread := l.invalid.Err()
	c.validate(&l.invalid)
	return c, l.error(unread)
}

type loader struct {
	settings     []Setting
	layers       []layer           // the highest first
	origins      map[string]string // key → where its value came from
	files        map[string]string // key → the file that held its value
	settingsFile string
	invalid      models.Invalid
}

func (l *loader) addFlags(flags *pflag.FlagSet) {
	byFlag := map[string]string{}
	for _, s := range l.settings {
		if s.Flag != "" {
			byFlag[s.Flag] = s.Key
		}
	}
	k := koanf.New(".")
	changed := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.Visit(changed.AddFlag)
	_ = k.Load(posflag.ProviderWithFlag(changed, ".", nil, func(f *pflag.Flag) (string, any) {
		return byFlag[f.Name], f.Value.String()
	}), nil) // reads memory: it cannot fail
	l.layers = append(l.layers, layer{values: k, name: func(key string) string {
		for flag, of := range byFlag {
			if of == key {
				return "--" + flag
			}
		}
		return key
	}})
}

// elsewhere are the PATROL_* variables that are no settings of the server:
// CONFIG names the file, and the client commands read the others.
var elsewhere = []string{"PATROL_CONFIG", "PATROL_SERVER", "PATROL_CREDENTIALS", "PATROL_TOKEN"}

// passedOver matches variables that others put into the environment: the test
// suite's, and those that Kubernetes makes in every pod for a Service called
// patrol or patrol-something.
var passedOver = regexp.MustCompile(`^PATROL_(TEST_.*|REQUIRE|LONG|SKIPPED|` +
	`([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$`)

func (l *loader) addEnv(environ []string) {
	keys := map[string]string{}
	for _, s := range l.settings {
		if name := s.Env(); name != "" {
			keys[name] = s.Key
			if s.Secret {
				keys[name+strings.ToUpper(fileSuffix)] = s.Key + fileSuffix
			}
		}
	}
	k := koanf.New(".")
	_ = k.Load(env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key, known := keys[name]
			switch {
			case known && value != "": // set to nothing counts as absent
				return key, value
			case value == "", slices.Contains(elsewhere, name), passedOver.MatchString(name):
				return "", nil
			}
			message := "is not a setting"
			if meant := Closest(name, sortedKeys(keys)); meant != "" {
				message += "; did you mean " + meant + "?"
			}
			l.invalid.Add(name, "%s", message)
			return "", nil
		},
	}), nil) // reads memory: it cannot fail
	l.layers = append(l.layers, layer{values: k, name: envName})
}

func (l *loader) addFile(flags *pflag.FlagSet, environ []string) error {
	path, _ := flags.GetString(FileFlag)
	if path == "" {
		path = lookupEnv(environ, "PATROL_CONFIG")
	}
	if path == "" {
		return nil
	}
	content, err := readFile(path)
	if err != nil {
		return fmt.Errorf("the settings file cannot be read: %w", err)
	}
	l.settingsFile = path
	k := koanf.New(".")
	if err := k.Load(rawbytes.Provider(content), yaml.Parser()); err != nil {
		return fmt.Errorf("the settings file %s is not valid YAML: %s", path, yamlProblem(err))
	}
	l.refuseUnknown("", k.Raw())
	base := filepath.Base(path)
	l.layers = append(l.layers, layer{values: k, name: func(key string) string { return key + " in " + base }})
	return nil
}

// yamlProblem tells where a YAML file is wrong without repeating what is there,
// which may be a secret: the parser quotes it in backquotes.
func yamlProblem(err error) string {
	quoted := regexp.MustCompile("(?s)`.*`")
	return quoted.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), secret.Mask)
}

// refuseUnknown reports every key of a file that no setting has.
func (l *loader) refuseUnknown(prefix string, values map[string]any) {
	var known []string
	leaf := map[string]bool{}
	for _, s := range l.settings {
		known = append(known, s.Key)
		leaf[s.Key] = true
		if s.Secret {
			leaf[s.Key+fileSuffix] = true
		}
	}
	for _, name := range sortedKeys(values) {
		key := prefix + name
		if leaf[key] {
			continue
		}
		isSection := slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") })
		nested, isMap := values[name].(map[string]any)
		switch {
		case isSection && isMap:
			l.refuseUnknown(key+".", nested)
		case isSection && values[name] == nil: // a section whose settings are all commented out
		case isSection:
			l.invalid.Add(key, "is a section: put its settings under it, indented")
		default:
			message := "is not a setting"
			if meant := Closest(key, known); meant != "" {
				message += "; did you mean " + meant + "?"
			}
			l.invalid.Add(key, "%s", message)
		}
	}
}

// fill sets one setting from the highest layer that has it.
func (l *loader) fill(s Setting) {
	for _, layer := range l.layers {
		raw, fromFile := layer.values.Get(s.Key), false
		if s.Secret {
			path := layer.values.Get(s.Key + fileSuffix)
			if raw != nil && path != nil {
				l.invalid.Add(s.Key, "give either %s or %s, not both", layer.name(s.Key), layer.name(s.Key+fileSuffix))
				return
			}
			if path != nil {
				raw, fromFile = path, true
			}
		}
		if raw == nil {
			continue
		}
		key := s.Key
		if fromFile {
			key += fileSuffix
			text, err := secretFromFile(raw)
			if err != nil {
				l.origins[key] = layer.name(key)
				l.invalid.Add(key, "%s", err)
				return
			}
			l.files[s.Key], _ = raw.(string) // else it could not have been read
			raw = text
		}
		l.origins[s.Key] = layer.name(key)
		decode(s.value, raw, s.Key, &l.invalid)
		return
	}
}

// SettingErrors lists the errors in the settings.
type SettingErrors []string

// Error lists the problems, one to a line if there are several.
func (p SettingErrors) Error() string {
	if len(p) == 1 {
		return "settings: " + p[0]
	}
	return fmt.Sprintf("%d problems with the settings:\n  %s", len(p), strings.Join(p, "\n  "))
}

// error turns what was found into one error, or nil. unread holds what could not
// even be read; further complaints about the same keys are left out.
func (l *loader) error(unread error) error {
	found, ok := errors.AsType[*models.Error](l.invalid.Err())
	if !ok {
		return nil
	}
	skip := map[string]bool{}
	count := 0
	if first, ok := errors.AsType[*models.Error](unread); ok {
		count = len(first.Fields)
		for _, f := range first.Fields {
			skip[f.Field] = true
		}
	}
	var p SettingErrors
	for i, f := range found.Fields {
		if i >= count && skip[f.Field] {
			continue
		}
		name := f.Field
		if origin := l.origins[name]; origin != "" && origin != name {
			name += " (" + strings.TrimPrefix(origin, name+" ") + ")"
		}
		p = append(p, name+": "+f.Message)
	}
	return p
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is larger than %s", path, Size(maxFile))
	}
	return os.ReadFile(path) //nolint:gosec // the operator names the file
}

func secretFromFile(raw any) (string, error) {
	path, ok := raw.(string)
	if !ok {
		return "", errors.New("must be the path of a file")
	}
	content, err := readFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(content), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

func lookupEnv(environ []string, name string) string {
	value := ""
	for _, entry := range environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v // the last one counts, as in a process's own environment
		}
	}
	return value
}
