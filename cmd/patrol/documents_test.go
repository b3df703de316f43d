package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCommandsThatDocumentsName holds that the commands and flags which the documents name in
// their text exist.
func TestCommandsThatDocumentsName(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	require.NoError(t, err)
	files = append(files, filepath.Join("..", "..", "README.md"))
	command := regexp.MustCompile("`patrol( [^`]+)`")
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range command.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\n", " "), -1) {
			var words, flags []string
			for word := range strings.FieldsSeq(m[1]) {
				switch {
				case strings.HasPrefix(word, "--"):
					name, _, _ := strings.Cut(strings.Trim(word, "-,;…"), "=")
					flags = append(flags, name)
				case len(flags) == 0 && regexp.MustCompile(`^[a-z-]+$`).MatchString(word) && !strings.HasPrefix(word, "-"):
					words = append(words, word)
				}
			}
			if len(words) == 0 {
				continue
			}
			found++
			cmd, rest, err := (&process{}).command().Find(words)
			require.NoError(t, err, "%s: %s", file, m[0])
			assert.True(t, len(rest) == 0 || !cmd.HasSubCommands(), "%s: %s: there is no command %v", file, m[0], rest)
			for _, name := range flags {
				cmd.InheritedFlags() // adds them to those of the command
				assert.True(t, name == "help" || cmd.Flags().Lookup(name) != nil, "%s: %s: there is no flag --%s", file, m[0], name)
			}
		}
	}
	assert.Greater(t, found, 20)
}
