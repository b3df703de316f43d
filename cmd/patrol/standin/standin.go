// Package standin is a stand-in for a model server: enough of the OpenAI HTTP
// interface for `patrol serve --demo` to have something to protect, and nothing
// that could be taken for a real one. Every answer carries the header
// X-Stand-In, and every JSON object says stand_in: true.
//
// It echoes, as headers named X-Echo-…, the identity headers that the gateway
// added, so that people can see what an upstream learns of a caller.
package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Header marks every answer.
const Header = "X-Stand-In"

// Models are the models that it pretends to serve.
func Models() []string { return []string{"llama3", "mistral"} }

const (
	label  = "this is Patrol's demo upstream, not a model server"
	maxAsk = 1 << 20
)

// Handler returns the stand-in. pause is the time between two pieces of a
// streamed answer, long enough to see it stream.
func Handler(pause time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", listModels)
	mux.HandleFunc("GET /v1/models/{id...}", getModel)
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { chat(w, r, pause) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "the stand-in has /v1/models and /v1/chat/completions")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(Header, label)
		for name, values := range r.Header {
			if rest, ok := strings.CutPrefix(name, "X-Patrol-"); ok && len(values) > 0 {
				w.Header().Set("X-Echo-"+rest, values[0])
			}
		}
		mux.ServeHTTP(w, r)
	})
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	StandIn bool   `json:"stand_in"`
}

func describe(id string) model {
	return model{ID: id, Object: "model", Created: 1_700_000_000, OwnedBy: "stand-in", StandIn: true}
}

func known(id string) bool { return slices.Contains(Models(), id) }

func listModels(w http.ResponseWriter, _ *http.Request) {
	list := struct {
		Object  string  `json:"object"`
		Data    []model `json:"data"`
		StandIn bool    `json:"stand_in"`
	}{Object: "list", StandIn: true}
	for _, id := range Models() {
		list.Data = append(list.Data, describe(id))
	}
	answer(w, http.StatusOK, list)
}

func getModel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !known(id) {
		refuse(w, http.StatusNotFound, "there is no such model here")
		return
	}
	answer(w, http.StatusOK, describe(id))
}

type message struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message,omitempty"`
	Delta        *message `json:"delta,omitempty"`
	FinishReason *string  `json:"finish_reason"`
}

type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	StandIn bool     `json:"stand_in"`
}

// chat answers any chat with the same sentence, whole or, if asked to stream,
// word by word as server-sent events.
func chat(w http.ResponseWriter, r *http.Request, pause time.Duration) {
	var ask struct {
		Model    string    `json:"model"`
		Stream   bool      `json:"stream"`
		Messages []message `json:"messages"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsk)).Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be a JSON object with model and messages, the messages being texts")
		return
	}
	if !known(ask.Model) {
		refuse(w, http.StatusNotFound, "there is no such model here")
		return
	}
	text := fmt.Sprintf("I stand in for %s and have read %d message(s).", ask.Model, len(ask.Messages))
	out := completion{ID: "chatcmpl-stand-in", Created: time.Now().Unix(), Model: ask.Model, StandIn: true}
	stop := "stop"
	if !ask.Stream {
		out.Object = "chat.completion"
		out.Choices = []choice{{Message: &message{Role: "assistant", Content: text}, FinishReason: &stop}}
		answer(w, http.StatusOK, out)
		return
	}
	out.Object = "chat.completion.chunk"
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for word := range strings.SplitAfterSeq(text, " ") {
		out.Choices = []choice{{Delta: &message{Content: word}}}
		if !event(w, out) || flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(pause):
		}
	}
	out.Choices = []choice{{Delta: &message{}, FinishReason: &stop}}
	event(w, out)
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n") // a client that left needs no end
}

func event(w http.ResponseWriter, v any) bool {
	encoded, err := json.Marshal(v)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", encoded)
	return err == nil
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]any{"error": map[string]string{"message": text}, "stand_in": true})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // nobody to tell if the client left
}
