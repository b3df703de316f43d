package rest

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/models"
)

// openAPIInJSON is the document of the interface in JSON.
func openAPIInJSON() []byte {
	content, err := yaml.YAMLToJSON(api.OpenAPI)
	if err != nil {
		panic(fmt.Errorf("read the OpenAPI document of this binary: %w", err)) // tests read it, too
	}
	return content
}

// getOpenAPI answers with the document of the interface, which is no secret.
func getOpenAPI(mediaType string, content []byte) func(*gin.Context, models.Principal) error {
	return func(c *gin.Context, _ models.Principal) error {
		header := c.Writer.Header()
		header.Set("Cache-Control", "public, max-age=3600")
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
		c.Data(http.StatusOK, mediaType, content)
		return nil
	}
}
