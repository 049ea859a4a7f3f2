package serve_test

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

// httpMain is the whole program: func main.
func httpMain() {
	srv := &http.Server{Handler: http.HandlerFunc(greet)}
	cfg := daemon.Config{
		Name:               "greet",
		Listen:             []string{"127.0.0.1:8080"},
		MainLoop:           serve.HTTP(srv),
		OnClientDisconnect: daemon.CancelJob, // which ends the request's context
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		log.Fatal(err)
	}
}

func greet(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello, %s!\n", r.URL.Query().Get("name"))
}

func ExampleHTTP() {
	answer, err := converse("http", "GET /?name=reader HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	fmt.Print(body, err)

	// Output:
	// Hello, reader!
	// <nil>
}
