package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkDev saves a change of examples/jobs and waits for the first answer of the new code, while other clients ask all
// the time. The yardstick is what one would do by hand: go build of an equal change, and the start of what was built until
// it answers.
func BenchmarkDev(b *testing.B) {
	w, hand := openJobs(b), openJobs(b)
	w.start()
	w.answers("pid=")
	m := &bench{site: w.site, b: b}
	var ours, yard times
	load := startLoad(w.addr + ":/")
	for b.Loop() {
		for i := range scaled(5, 20) {
			begun := time.Now()
			w.change(fmt.Sprintf("dev%d", i))
			w.first(w.addr, w.text)
			ours = append(ours, time.Since(begun))
			w.says(len(ours), "rolled over")
			w.idle()
			yard = append(yard, hand.byHand(fmt.Sprintf("hand%d", i)))
		}
	}
	load.end()
	if len(load.failed) > 0 {
		b.Errorf("%d requests failed, the first %v", len(load.failed), load.failed[0])
	}
	b.Log(load)
	b.ReportMetric(float64(len(load.failed)), "failed")
	m.compare("from the save to the first answer at most 1.2 times go build and a bare start", ours, "byhand", yard)
}

// A jobsShop is a workshop with examples/jobs in it.
type jobsShop struct {
	*workshop
	text string // that its answers begin with
}

func openJobs(b *testing.B) *jobsShop {
	b.Helper()
	w := openWorkshop(b)
	for _, name := range []string{"main.go", "work.go"} {
		text, err := os.ReadFile(filepath.Join("../examples/jobs", name))
		if err != nil {
			b.Fatal(err)
		}
		w.write(name, string(text))
	}
	return &jobsShop{w, ""}
}

// change makes the answers begin with another text.
func (w *jobsShop) change(text string) {
	w.tb.Helper()
	w.edit("main.go", `"`+w.text+`pid=%d`, `"`+text+` pid=%d`)
	w.text = text + " "
}

// first waits for an answer that begins with a text.
func (w *jobsShop) first(addr, text string) {
	w.tb.Helper()
	for deadline := time.Now().Add(slow); ; time.Sleep(2 * time.Millisecond) {
		if got, err := get(addr + ":/"); err == nil && strings.HasPrefix(got, text) {
			return
		}
		if time.Now().After(deadline) {
			w.tb.Fatalf("no answer with %q\nbrood dev:\n%s", text, w.out.String())
		}
	}
}

// byHand makes an equal change, builds it, starts it, and returns how long it takes until it answers.
func (w *jobsShop) byHand(text string) time.Duration {
	w.tb.Helper()
	program, addr := filepath.Join(w.dir, "jobs"), filepath.Join(w.dir, "s")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = w.src, append(w.site.environ(), goSettings()...)
	start := w.command(program, "-run-dir", w.run, "-listen", "unix:"+addr)
	begun := time.Now()
	w.change(text)
	if out, err := build.CombinedOutput(); err != nil {
		w.tb.Fatalf("%v: %s", err, out)
	}
	if err := start.Start(); err != nil {
		w.tb.Fatal(err)
	}
	w.first(addr, w.text)
	took := time.Since(begun)
	start.Process.Signal(os.Interrupt)
	start.Wait()
	return took
}
