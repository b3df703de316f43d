package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"patrol/internal/secret"
	"patrol/models"
)

// fileSuffix makes of a secret's key the key of the file that holds it.
const fileSuffix = "_file"

// envPrefix starts the name of every environment variable that Patrol reads.
const envPrefix = "PATROL_"

// Setting is one thing that can be set.
type Setting struct {
	Key     string // dotted, such as tokens.max_lifetime
	Flag    string // without dashes; "" if there is none
	Doc     string // one or more sentences
	Kind    string // what its value is, in a word or two
	Default string // as it would be written
	Secret  bool   // it can be given in a file
	value   reflect.Value
}

// Env is the name of the setting's environment variable, "" if it can be set in
// the file only.
func (s Setting) Env() string {
	if s.value.Kind() == reflect.Map {
		return ""
	}
	return envName(s.Key)
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[secret.Text]()
	urlType      = reflect.TypeFor[URL]()
	sizeType     = reflect.TypeFor[Size]()
)

// Settings lists what can be set, in the order in which people should read it.
func Settings() []Setting { return settingsOf(new(Default())) }

// settingsOf lists the settings of c; their values point into it.
func settingsOf(c *Config) []Setting {
	return walk(reflect.ValueOf(c).Elem(), "")
}

// sections lists the keys of the sections and their texts, in order.
func sections() (keys []string, docs map[string]string) {
	docs = map[string]string{}
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, f.Tag.Get("key"))
			docs[f.Tag.Get("key")] = f.Tag.Get("doc")
		}
	}
	return keys, docs
}

func walk(v reflect.Value, prefix string) []Setting {
	var out []Setting
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() { // no setting, but where one came from
			continue
		}
		field, tag := v.Field(i), v.Type().Field(i).Tag
		key := prefix + tag.Get("key")
		if field.Kind() == reflect.Struct {
			out = append(out, walk(field, key+".")...)
			continue
		}
		s := Setting{
			Key: key, Flag: tag.Get("flag"), Doc: tag.Get("doc"), Kind: kindOf(field.Type()),
			Default: render(field), Secret: field.Type() == secretType, value: field,
		}
		if text := tag.Get("default"); text != "" {
			s.Default = text
		}
		out = append(out, s)
	}
	return out
}

func kindOf(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t == secretType:
		return "secret"
	case t == urlType:
		return "URL"
	case t == sizeType:
		return "size"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "mapping"
	default:
		panic("config: no settings of type " + t.String())
	}
}

// render writes a value as people would, secrets masked.
func render(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case []string:
		return strings.Join(value, ",")
	case map[string]Upstream:
		return ""
	default:
		return fmt.Sprint(value)
	}
}

func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	return models.FormatDuration(d)
}

// Closest returns the known name that name was most likely meant to be, or "".
func Closest(name string, known []string) string {
	best, distance := "", 1+len(name)/4
	for _, k := range known {
		if d := editDistance(name, k); d <= distance && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
