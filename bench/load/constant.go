package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// serveConstant is the server that the others are measured against. It reads
// the body and answers size bytes, always the same.
func serveConstant(ctx context.Context, size int) error {
	answer := []byte(`{"allowed":true,"filler":"` + strings.Repeat("x", max(0, size-len(`{"allowed":true,"filler":""}`))) + `"}`)
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.POST("/authorize", func(c *gin.Context) {
		if _, err := io.Copy(io.Discard, c.Request.Body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.Data(http.StatusOK, "application/json", answer)
	})
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, l.Addr())
	server := &http.Server{Handler: router, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
