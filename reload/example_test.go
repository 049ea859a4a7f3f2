package reload_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/reload"
)

// A file is written in two steps. It is reported once, when it is whole.
func Example() {
	dir, err := os.MkdirTemp("", "reload")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "jobd.conf")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	write("workers = 3\n")

	set := reload.Files(path)
	set.Settle = 100 * time.Millisecond // the default, 300 ms, is for programs
	w, err := reload.Open(set)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	write("workers")
	write("workers = 8\n")
	change := <-w.Changes()
	for _, p := range change.Paths {
		text, err := os.ReadFile(p)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s is now: %s", filepath.Base(p), text)
	}

	// Output:
	// jobd.conf is now: workers = 8
}

// Before root executes a program: could anybody else have changed it?
func ExampleTrusted() {
	const path = "/usr/local/bin/jobd"
	f, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	// What is judged is the file that is open, and that is what to execute: the name may lead to another one by then.
	if err := reload.Trusted(path, int(f.Fd())); err != nil {
		log.Fatal(err)
	}
}
