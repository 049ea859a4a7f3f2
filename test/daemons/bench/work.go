package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// works are kinds of work that go on until they are ended: one listens to its context, one does not, and one is not even in
// this process. Whoever works holds the file open, so that the other end of a named pipe learns when the last one has ended.
var works = map[string]func(context.Context, *os.File){
	"sleep": func(ctx context.Context, _ *os.File) { <-ctx.Done() },
	"spin": func(_ context.Context, f *os.File) {
		for begun := time.Now(); time.Since(begun) < time.Minute; {
		}
	},
	"shell": func(_ context.Context, f *os.File) {
		cmd := exec.Command("sh", "-c", "while :; do :; done & sleep 60")
		cmd.ExtraFiles = []*os.File{f}
		if err := cmd.Start(); err == nil {
			f.Close() // only they hold it now
			cmd.Wait()
		}
	},
}

// work does ?kind= and holds ?until= open for as long.
func work(w http.ResponseWriter, r *http.Request) {
	f, err := os.OpenFile(r.FormValue("until"), os.O_WRONLY, 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer f.Close()
	works[r.FormValue("kind")](r.Context(), f)
}
