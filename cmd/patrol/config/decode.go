package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"patrol/internal/secret"
	"patrol/models"
)

// decode sets v to raw, which is text from a flag or the environment, or whatever
// YAML made of it. What does not fit is added to invalid under key; the text of
// the value is never repeated.
func decode(v reflect.Value, raw any, key string, invalid *models.Invalid) {
	if v.Kind() == reflect.Map {
		decodeUpstreams(v, raw, key, invalid)
		return
	}
	if v.Kind() == reflect.Slice {
		list, err := textList(raw)
		if err != nil {
			invalid.Add(key, "%s", err)
			return
		}
		v.Set(reflect.ValueOf(list))
		return
	}
	text, err := scalar(raw, v)
	if err == nil {
		err = setText(v, text)
	}
	if err != nil {
		invalid.Add(key, "%s", err)
	}
}

// scalar returns a value as text. Text must be text already: YAML reads 0123 as
// a number and `no` as false, and a password must not change on the way.
func scalar(raw any, v reflect.Value) (string, error) {
	switch raw := raw.(type) {
	case string:
		return strings.TrimSpace(raw), nil
	case int, int64, uint64, float64, bool:
		if v.Kind() == reflect.String {
			return "", fmt.Errorf("must be text: put it in quotes")
		}
		return fmt.Sprint(raw), nil
	default:
		return "", fmt.Errorf("must be a single value")
	}
}

func setText(v reflect.Value, text string) error {
	switch v.Type() {
	case durationType:
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return err
	case sizeType:
		n, err := ParseSize(text)
		v.SetInt(int64(n))
		return err
	}
	switch v.Kind() { //nolint:exhaustive // the kinds that Config has
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number")
		}
		v.SetInt(int64(n))
	}
	return nil
}

// parseDuration is models.ParseDuration, and 0, which means "off" where a
// setting allows it.
func parseDuration(text string) (time.Duration, error) {
	if text == "0" || text == "0s" {
		return 0, nil
	}
	return models.ParseDuration(text)
}

func textList(raw any) ([]string, error) {
	list := []string{}
	switch raw := raw.(type) {
	case string:
		for part := range strings.SplitSeq(raw, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
	case []any:
		for _, item := range raw {
			text, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("must be a list of texts")
			}
			list = append(list, text)
		}
	default:
		return nil, fmt.Errorf("must be a list")
	}
	return list, nil
}

// decodeUpstreams reads `upstreams`, which only the file can hold.
func decodeUpstreams(v reflect.Value, raw any, key string, invalid *models.Invalid) {
	upstreams := map[string]Upstream{}
	byName, ok := raw.(map[string]any)
	if !ok {
		invalid.Add(key, "must map domains to upstreams")
		return
	}
	for _, name := range sortedKeys(byName) {
		var u Upstream
		at := key + "." + name
		fields, ok := byName[name].(map[string]any)
		if !ok {
			invalid.Add(at, "must be a mapping with url, kind, headers, credential")
			continue
		}
		u.decode(fields, at, invalid)
		upstreams[name] = u
	}
	v.Set(reflect.ValueOf(upstreams))
}

func (u *Upstream) decode(fields map[string]any, at string, invalid *models.Invalid) {
	for _, name := range sortedKeys(fields) {
		raw := fields[name]
		switch name {
		case "url":
			decode(reflect.ValueOf(&u.URL).Elem(), raw, at+".url", invalid)
		case "credential":
			decode(reflect.ValueOf(&u.Credential).Elem(), raw, at+".credential", invalid)
		case "credential_file":
			text, err := secretFromFile(raw)
			if err != nil {
				invalid.Add(at+".credential_file", "%s", err)
			} else if fields["credential"] != nil {
				invalid.Add(at+".credential", "give either credential or credential_file, not both")
			}
			u.Credential = secret.Text(text)
			u.credentialFile, _ = raw.(string) // else it could not have been read
		case "kind":
			decode(reflect.ValueOf(&u.Kind).Elem(), raw, at+".kind", invalid)
		case "credential_header":
			decode(reflect.ValueOf(&u.CredentialHeader).Elem(), raw, at+".credential_header", invalid)
		case "headers":
			headers, ok := raw.(map[string]any)
			if !ok {
				invalid.Add(at+".headers", "must map header names to values")
				continue
			}
			u.Headers = map[string]secret.Text{}
			for _, header := range sortedKeys(headers) {
				var value secret.Text
				decode(reflect.ValueOf(&value).Elem(), headers[header], at+".headers."+header, invalid)
				u.Headers[header] = value
			}
		default:
			invalid.Add(at+"."+name, "is not a setting; an upstream has url, kind, headers, credential, credential_file, credential_header")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
