// Web is an HTTP daemon with a database: notes that are written, read and deleted. Each child has a handle of its own, open
// before its first client comes and closed after its last one.
//
//	go -C examples/web run . -db /tmp/notes.db
//	curl -d 'remember the milk' http://127.0.0.1:8081/notes     # prints /notes/1
//	curl http://127.0.0.1:8081/notes/1
//
// With -listen ':8443,cert=FILE,key=FILE' it speaks TLS, and HTTP/2.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// A site is what a child has beside its sockets.
type site struct {
	child *daemon.Child
	notes *notes
}

func main() {
	path := flag.String("db", "notes.db", "`file` of the database, in a directory in which children may write")
	s := &site{}
	srv := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	cfg := daemon.Config{
		Name:     "web",
		Listen:   []string{"127.0.0.1:8081"},
		MainLoop: serve.HTTP(srv),
		// More than one request per child: so connections are kept, and a kept one takes nobody's place.
		Concurrency:        64,
		OnClientDisconnect: daemon.CancelJob, // ends the request's context, and with that its query
		JobTimeout:         30 * time.Second,
		AutoReload:         reload.Self(),
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	// Before Run, where the current directory is the same in every process.
	file, err := filepath.Abs(*path)
	if err != nil {
		log.Fatalln("web:", err)
	}
	// A child that returns an error here never gets a client; and if it is one of new code, the old ones go on.
	cfg.ChildInit = func(c *daemon.Child) (err error) {
		s.child = c
		s.notes, err = openNotes(file)
		return err
	}
	cfg.ChildFinish = func(*daemon.Child) { s.notes.close() }
	if err := daemon.Run(context.Background(), cfg); err != nil {
		log.Fatalln("web:", err)
	}
}
