package engine

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// AtData adds to an error the place of a part of the data in the bundle's files. The keys lead
// to the part from data.patrol. If no file has the last keys, the place is that of the nearest
// key above them.
func (b *Bundle) AtData(keys []string, err error) error {
	if err == nil {
		return nil
	}
	keys = append([]string{Root}, keys...)
	found, deepest := LocatedError{Err: err}, 1 // data.patrol itself is everywhere
	for _, name := range slices.Sorted(maps.Keys(b.Documents)) {
		var above []string
		if dir := path.Dir(name); dir != "." {
			above = strings.Split(dir, "/")
		}
		if len(above) > len(keys) || !slices.Equal(above, keys[:len(above)]) {
			continue
		}
		var document yaml.Node // JSON is YAML
		if yaml.Unmarshal(b.Documents[name], &document) != nil || len(document.Content) == 0 {
			continue
		}
		line, column, steps := walk(document.Content[0], keys[len(above):])
		if depth := len(above) + steps; depth > deepest {
			found.File, found.Line, found.Column, deepest = name, line, column, depth
		}
	}
	if found.File == "" {
		return err
	}
	return &found
}

// walk follows keys as far as they go, and returns where the last one is, and how many
// there were.
func walk(node *yaml.Node, keys []string) (line, column, steps int) {
	for _, key := range keys {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		var next *yaml.Node
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == key {
					line, column, next = node.Content[i].Line, node.Content[i].Column, node.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(node.Content) {
				next = node.Content[i]
				line, column = next.Line, next.Column
			}
		}
		if next == nil {
			break
		}
		node = next
		steps++
	}
	return line, column, steps
}
