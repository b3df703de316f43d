package pages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/bundles"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/ui"
)

// playgroundPages let the policy team try changes to a copy of the policy.
func (s *Surface) playgroundPages() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy/playground", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePlayground, Accepts: endpoint.Accepts{Query: []string{"decision", "file"}}},
		{Method: "POST", Path: "/policy/playground", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.formPlayground, Accepts: endpoint.Accepts{Form: []string{"do", "open", "new", "input", "decision", "replay", "check"}, Lists: []string{"path", "text", "gone"}}},
	}
}

func (s *Surface) pagePlayground(c *gin.Context, p models.Principal) error {
	var form ui.PlaygroundForm
	if id := c.Query("decision"); id != "" {
		form.Do, form.Decision = ui.DoRecorded, id
	}
	if file := c.Query("file"); file != "" {
		form.Do, form.Open = ui.DoOpen, file
	}
	return s.showPlayground(c, p, form)
}

func (s *Surface) formPlayground(c *gin.Context, p models.Principal) error {
	values, err := endpoint.ReadForm(c, s.cfg.Playground.MaxBody)
	if err != nil {
		return err
	}
	form, err := ui.DecodePlayground(values)
	if err != nil {
		return err
	}
	return s.showPlayground(c, p, form)
}

// showPlayground does what the form says and shows it again. All that is edited goes to
// and fro: the server keeps none of it.
func (s *Surface) showPlayground(c *gin.Context, p models.Principal, form ui.PlaygroundForm) error {
	if !s.manage.HasPlayground() {
		return s.show(c, p, http.StatusOK, ui.Playground{Off: true})
	}
	ctx := c.Request.Context()
	base, err := s.manage.PolicyInForce(ctx)
	if err != nil {
		return err
	}
	page := ui.Playground{
		PlaygroundForm: form, Revision: base.Revision(), Names: slices.Sorted(maps.Keys(base.Files)), Logged: s.manage.HasLog(), Most: s.cfg.Playground.MaxReplay,
	}
	failed := s.editPlayground(ctx, base, &page)
	if failed == nil && form.Do == ui.DoTry {
		endpoint.AllowTrial(c.Writer, s.cfg.Playground.Timeout+s.cfg.HTTP.WriteTimeout)
		var tried *manage.Tried
		if tried, failed = s.manage.TryPolicy(ctx, p, form.Trial()); tried != nil {
			page.Tried = &ui.Tried{PlaygroundResult: tried.PlaygroundResult, Explanation: tried.Explanation}
		}
	}
	for i := range page.Files {
		_, page.Files[i].Own = base.Files[page.Files[i].Path]
	}
	if failed == nil {
		return s.show(c, p, http.StatusOK, page)
	}
	var ok bool
	if page.Problems, ok = ui.PlaygroundProblems(failed); !ok {
		return failed
	}
	return s.again(c, p, failed, page)
}

// editPlayground does what is not to try.
func (s *Surface) editPlayground(ctx context.Context, base *bundles.Bundle, page *ui.Playground) error {
	var v models.Invalid
	do, argument, _ := strings.Cut(page.Do, ":")
	switch do += ":"; do {
	case ui.DoClose, ui.DoPutBack:
		page.Close(argument)
	case ui.DoTakeOut:
		page.Close(argument)
		page.Gone = append(page.Gone, argument)
	case ui.DoSample:
		page.Input, page.Decision = ui.PlaygroundSample(argument, s.now()), ""
	}
	switch page.Do {
	case ui.DoOpen:
		content, there := base.Files[page.Open]
		if !there {
			v.Add("open", "is not a file of the policy in force")
			break
		}
		page.Close(page.Open)
		page.Files = append(page.Files, ui.EditedFile{Path: page.Open, Text: string(content)})
	case ui.DoNew:
		if _, err := bundles.Edited(base.Source, map[string][]byte{page.New: {}}); err != nil {
			bad, ok := errors.AsType[*bundles.EditError](err)
			if !ok {
				return err
			}
			v.Add("new", "%s", bad.Problem)
			break
		}
		content, there := base.Files[page.New]
		if !there {
			content = []byte(ui.NewModule(page.New))
		}
		page.Close(page.New)
		page.Files = append(page.Files, ui.EditedFile{Path: page.New, Text: string(content)})
		page.New = ""
	case ui.DoRecorded:
		input, _, err := s.manage.RecordedInput(ctx, page.Decision)
		if models.CodeOf(err) == models.CodeNotFound {
			v.Add("decision", "is not in the log, or was made without the policy")
			break
		}
		if err != nil {
			return err
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, input, "", "  "); err != nil {
			return fmt.Errorf("read the input of a decision: %w", err)
		}
		page.Input = indented.String() + "\n"
	}
	return v.Err()
}
