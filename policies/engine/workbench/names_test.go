package workbench_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine/workbench"
)

// TestNamesThatNoRequestHas: literals that are compared with the name of a model are
// looked at in the form in which names are judged.
func TestNamesThatNoRequestHas(t *testing.T) {
	t.Parallel()
	const head = `# METADATA
# title: Rules of our own
# schemas:
#   - input: schema.authz_input
package patrol.custom

`
	rule := func(body string) string {
		return head + `# METADATA
# title: A rule
# custom:
#   code: laboratory
#   message: Not this one.
reason := rego.metadata.rule().custom if {
	` + body + "\n}\n"
	}
	for name, c := range map[string]struct {
		rego  string
		kinds []string
		want  []string // line and column
	}{
		"equal":                        {rule(`input.request.entity == "LAB-1"`), []string{"ollama"}, []string{"13:26"}},
		"the other way round":          {rule(`"lab-1:latest" == input.request.entity`), []string{"ollama"}, []string{"13:2"}},
		"unequal":                      {rule(`input.request.entity != "library/lab-1"`), []string{"ollama"}, []string{"13:26"}},
		"in a set":                     {rule(`input.request.entity in {"lab-1", "Lab-2", "lab-3"}`), []string{"ollama"}, []string{"13:36"}},
		"by another name":              {rule("name := input.request.entity\n\tname == \"LAB-1\""), []string{"ollama"}, []string{"14:10"}},
		"by iteration":                 {rule("some name in [\"LAB-1\"]\n\tname == input.request.entity"), []string{"ollama"}, []string{"13:16"}},
		"in a list of the package":     {head + "banned := {\"LAB-1\", \"lab-2\"}\n\n" + rule(`input.request.entity in banned`)[len(head):], []string{"ollama"}, []string{"7:12"}},
		"as a key":                     {head + "banned := {\"LAB-1\": true}\n\n" + rule(`banned[input.request.entity]`)[len(head):], []string{"ollama"}, []string{"7:12"}},
		"in a list by its whole name":  {head + "banned contains \"LAB-1\"\n\n" + rule(`data.patrol.custom.banned[input.request.entity]`)[len(head):], []string{"ollama"}, []string{"7:17"}},
		"a prefix":                     {rule(`startswith(input.request.entity, "LAB-")`), []string{"ollama"}, []string{"13:35"}},
		"a suffix":                     {rule(`endswith(input.request.entity, ":latest")`), []string{"ollama"}, []string{"13:33"}},
		"a part":                       {rule(`contains(input.request.entity, "LAB")`), []string{"ollama"}, []string{"13:33"}},
		"several in one for a LiteLLM": {rule(`input.request.entity == "a,b"`), []string{"litellm"}, []string{"13:26"}},

		"in canonical form":            {rule(`input.request.entity in {"lab-1", "hf.co/me/x", "lab-1:8b", "*"}`), []string{"ollama"}, nil},
		"a prefix in canonical form":   {rule(`startswith(input.request.entity, "lab-")`), []string{"ollama"}, nil},
		"what compares byte for byte":  {rule(`input.request.entity == "LAB-1"`), []string{"openai", "vllm"}, nil},
		"no kind":                      {rule(`input.request.entity == "LAB-1"`), nil, nil},
		"other parts of the input":     {rule("input.request.entity == \"lab-1\"\n\tinput.user.name == \"Ada\"\n\tinput.request.domain in {\"ACME\"}"), []string{"ollama"}, nil},
		"rules that do not mention it": {rule(`input.user.name == "LAB-1"`), []string{"ollama"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warnings, err := workbench.Names(bundle(t, map[string]string{"custom/custom.rego": c.rego}), c.kinds...)
			require.NoError(t, err)
			var at []string
			for _, f := range warnings {
				assert.Equal(t, "custom/custom.rego", f.File)
				assert.Equal(t, "name_not_canonical", f.Code)
				assert.Contains(t, f.Message, c.kinds[0])
				at = append(at, fmt.Sprintf("%d:%d", f.Line, f.Column))
			}
			assert.Equal(t, c.want, at, "%v", warnings)
		})
	}
}
