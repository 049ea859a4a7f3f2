package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// slow is how long a build may take on a machine that has much else to do.
const slow = 2 * time.Minute

// answers waits until the program answers with all of that.
func (w *workshop) answers(texts ...string) {
	w.tb.Helper()
	w.eventually(func() error {
		got, err := get(w.addr + ":/")
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(got, text) {
				return fmt.Errorf("the answer is %q, want %q", got, text)
			}
		}
		return nil
	})
}

func (w *workshop) eventually(f func() error) {
	w.tb.Helper()
	if err := eventually(slow, f); err != nil {
		w.tb.Fatalf("%v\nbrood dev:\n%s", err, w.out.String())
	}
}

// says waits until brood dev, or the program, has printed a text so many times; more are a failure.
func (w *workshop) says(n int, text string) {
	w.tb.Helper()
	w.eventually(func() error {
		switch got := strings.Count(w.out.String(), text); {
		case got > n:
			return failure{fmt.Errorf("%q is there %d times, want %d", text, got, n)}
		case got < n:
			return fmt.Errorf("%q is there %d times, want %d", text, got, n)
		}
		return nil
	})
}

// building waits until one more build has begun than there were before.
func (w *workshop) building(before int) {
	w.tb.Helper()
	w.eventually(func() error {
		if n, err := w.built(); err != nil || n == before {
			return fmt.Errorf("no further build: %v", err)
		}
		return nil
	})
}

// built returns how many builds have begun, and an error if two have overlapped.
func (w *workshop) built() (n int, err error) {
	b, err := os.ReadFile(w.builds)
	if err != nil {
		return 0, err
	}
	running := 0
	for _, word := range strings.Fields(string(b)) {
		if word == "begin" {
			n++
			running++
		} else {
			running--
		}
		if running > 1 {
			return n, errors.New("two builds have overlapped")
		}
	}
	return n, nil
}

// idle waits until as many builds have ended as have begun, and for half a second none has begun, and returns how many.
func (w *workshop) idle() int {
	w.tb.Helper()
	var last string
	since := time.Now()
	w.eventually(func() error {
		b, err := os.ReadFile(w.builds)
		if err != nil {
			return err
		}
		if text := string(b); text != last || strings.Count(text, "begin") != strings.Count(text, "end") {
			last, since = text, time.Now()
		}
		if time.Since(since) < 500*time.Millisecond {
			return errors.New("it builds")
		}
		return nil
	})
	n, err := w.built()
	if err != nil {
		w.tb.Fatal(err)
	}
	return n
}

// leftovers returns what a brood dev that has ended should not have left: processes, files of the run directory, its own
// directory.
func (w *workshop) leftovers() error {
	if err := w.empty(); err != nil {
		return err
	}
	private, _ := filepath.Glob(filepath.Join(w.dir, "brood-dev-*"))
	inRun, _ := filepath.Glob(filepath.Join(w.run, "*"))
	work, _ := filepath.Glob(filepath.Join(w.dir, "go-build*"))
	if left := append(append(private, inRun...), work...); len(left) > 0 || exists(w.addr) {
		return fmt.Errorf("left behind: %q, socket %v", left, exists(w.addr))
	}
	return nil
}
