package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const readerProgram = "../examples/scoreboard-reader/scoreboard-reader.py"

// reader runs the reader that was written from docs/SCOREBOARD.md alone. It never ends with a trace of Python's.
func reader(t *testing.T, args ...string) (out []byte, complaint string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("python3", append([]string{readerProgram}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if bytes.Contains(stderr.Bytes(), []byte("Traceback")) {
		t.Fatalf("%v: %s", args, stderr.Bytes())
	}
	return stdout.Bytes(), stderr.String(), err
}

func needPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed: the reader in another language is not tested")
	}
}

// busyBoard starts a daemon of which the scoreboard has something of everything: jobs that run, one with a limit, a child that
// was killed, a reload, an operator.
func busyBoard(t *testing.T) *server {
	s := openSite(t)
	d, err := s.serve(nil, "jobs", "-prefork", "3", "-job-timeout", "5m", "-soak", "0s")
	if err == nil {
		err = s.command("brood", "reload", d.run).Run()
	}
	if err == nil {
		_, err = d.await("generation=2", "children=3", "idle=3", "state=serving")
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"spin", "sleep", "sleep"} {
		v, err := ask(fmt.Sprintf("%s/job?seconds=300&kind=%s&id=r%d", d.addr, kind, i))
		if err != nil {
			t.Fatal(err)
		}
		s.undo = append(s.undo, func() { v.conn.Close() })
		if i == 0 {
			if _, err := d.await("working=1"); err != nil {
				t.Fatal(err)
			}
			v.conn.Close()
			if _, err := d.await("killed=1", "idle=3"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := d.await("working=2", "idle=1"); err != nil {
		t.Fatal(err)
	}
	return d
}

// What the reader in Python says is what brood says, field by field.
func TestReaderAgrees(t *testing.T) {
	leaveToPlain(t)
	needPython(t)
	t.Parallel()
	d := busyBoard(t)
	// The daemon may do something between two looks: then both are taken anew.
	err := eventually(patience, func() error {
		out, complaint, err := reader(t, "--json", d.run)
		if err != nil {
			return failure{fmt.Errorf("%w: %s", err, complaint)}
		}
		var theirs map[string]any
		if err := decodeNumbers(out, &theirs); err != nil {
			return failure{err}
		}
		var ours map[string]any
		if out, err = d.site.command("brood", "status", "--json", d.run).Output(); err == nil {
			err = decodeNumbers(out, &ours)
		}
		if err != nil {
			return failure{err}
		}
		if out, err = d.site.command("brood", "events", "--json", "--lines=1000", d.run).Output(); err != nil {
			return failure{err}
		}
		events := []any{}
		for line := range bytes.Lines(out) {
			var e any
			if err := decodeNumbers(line, &e); err != nil {
				return failure{err}
			}
			events = append(events, e)
		}
		ours["events"] = events
		if n := len(theirs["children"].([]any)); n != 3 || len(events) < 10 {
			return failure{fmt.Errorf("%d children, %d events: too little to compare", n, len(events))}
		}
		if err := same("", ours, theirs); err != nil {
			return err
		}
		return same("", theirs, ours)
	})
	if err != nil {
		t.Error(err)
	}
	// As text, too.
	out, complaint, err := reader(t, "-n", "1000", d.run)
	if err != nil {
		t.Fatal(err, complaint)
	}
	for _, want := range []string{"jobs: serving, generation 2, pid ", "W working since ", ": GET /job  (", "client of job", "uid="} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func decodeNumbers(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}

// same returns an error unless b has all that a has. What is left out is empty; a moment may be written in any zone; how much
// time a job has left is not the same twice, and the memory of a child does not stand in the file.
func same(at string, a, b any) error {
	switch a := a.(type) {
	case map[string]any:
		other, ok := b.(map[string]any)
		if !ok && !empty(a) {
			return fmt.Errorf("%s: %v and %v", at, a, b)
		}
		for k, v := range a {
			if k == "memory" {
				continue
			}
			if err := same(at+"."+k, v, other[k]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		other, ok := b.([]any)
		if !ok || len(a) != len(other) {
			return fmt.Errorf("%s: %v and %v", at, a, b)
		}
		for i, v := range a {
			if err := same(fmt.Sprintf("%s[%d]", at, i), v, other[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if empty(a) && empty(b) || reflect.DeepEqual(a, b) {
		return nil
	}
	x, xerr := time.Parse(time.RFC3339Nano, fmt.Sprint(a))
	y, yerr := time.Parse(time.RFC3339Nano, fmt.Sprint(b))
	if xerr == nil && yerr == nil && x.Equal(y) {
		return nil
	}
	if strings.HasSuffix(at, ".left") && near(a, b) {
		return nil
	}
	return fmt.Errorf("%s: %v and %v", at, a, b)
}

func near(a, b any) bool {
	x, ok1 := a.(json.Number)
	y, ok2 := b.(json.Number)
	n, err1 := x.Int64()
	m, err2 := y.Int64()
	return ok1 && ok2 && err1 == nil && err2 == nil && time.Duration(n-m).Abs() < patience
}

// empty reports whether a value is one that JSON may leave out.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case json.Number:
		return v == "0"
	case string:
		return v == "" || v == "0001-01-01T00:00:00Z"
	}
	return false
}

// A file that is damaged is refused, or what cannot be known of it is marked so.
func TestReaderDamaged(t *testing.T) {
	leaveToPlain(t)
	needPython(t)
	t.Parallel()
	d := busyBoard(t)
	good, err := os.ReadFile(filepath.Join(d.run, "scoreboard"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.site.dir, "damaged")
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(off int, with ...byte) []byte {
		b := slices.Clone(good)
		copy(b[off:], with)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":      {},
		"no header":  good[:100],
		"no slots":   good[:boardHeader],
		"no ring":    good[:len(good)-512*512],
		"last byte":  good[:len(good)-1],
		"magic":      changed(0, 'X'),
		"version":    changed(8, 99),
		"0 slots":    changed(boardSlots, 0, 0, 0, 0),
		"many slots": changed(boardSlots, 0xff, 0xff, 0xff, 0xff),
		"slot size":  changed(16, 1),
		"events":     changed(92, 1),
		"zeros":      make([]byte, len(good)),
	} {
		put(b)
		if out, complaint, err := reader(t, "--json", path); err == nil || !strings.HasPrefix(complaint, "scoreboard-reader: ") {
			t.Errorf("%s: %v, %q, %.200s", name, err, complaint, out)
		}
	}
	for _, other := range []string{d.site.dir, "/dev/null", "/dev/zero", "/no/such/file"} {
		if _, complaint, err := reader(t, other); err == nil {
			t.Errorf("%s was read: %s", other, complaint)
		}
	}

	// A child that stopped while it wrote: what it is doing is unknown, the rest is not.
	var torn int
	for i := range 3 {
		if at := boardHeader + i*boardSlot; good[at+slotPhase] == phaseServing {
			torn = at
		}
	}
	put(changed(torn+192, good[torn+192]|1))
	out, complaint, err := reader(t, "--json", path)
	var board struct {
		Children []struct {
			Torn bool
			Job  uint64
			PID  int
		}
		Events []struct{ Seq uint64 }
	}
	if err == nil {
		err = json.Unmarshal(out, &board)
	}
	if err != nil {
		t.Fatal(err, complaint)
	}
	n := 0
	for _, c := range board.Children {
		if c.Torn {
			n++
			if c.Job != 0 || c.PID == 0 {
				t.Errorf("torn, and yet %+v", c)
			}
		}
	}
	if n != 1 || len(board.Children) != 3 {
		t.Errorf("%d of %d children are torn, want 1 of 3", n, len(board.Children))
	}

	// An event whose sum is wrong is none.
	events := len(board.Events)
	ring := len(good) - 512*512
	put(changed(ring+2*512+100, good[ring+2*512+100]^1))
	if out, complaint, err = reader(t, "--json", path); err == nil {
		err = json.Unmarshal(out, &board)
	}
	if err != nil || len(board.Events) != events-1 || slices.ContainsFunc(board.Events, func(e struct{ Seq uint64 }) bool { return e.Seq == 2 }) {
		t.Errorf("%v %s: %d events, want %d without number 2", err, complaint, len(board.Events), events-1)
	}

	// Bytes at random, with a header that is believed and without: read or refused, as text and as JSON, and no text moves a cursor.
	r := rand.New(rand.NewPCG(1, 2))
	for i := range scaled(3, 9) {
		b := slices.Clone(good)
		begin := 0
		if i%3 > 0 {
			begin = 96 // what is checked is before
		}
		for j := begin; j < len(b); j++ {
			if i%3 == 1 || r.IntN(50) == 0 {
				b[j] = byte(r.Uint32())
			}
		}
		put(b)
		for _, args := range [][]string{{"--json", path}, {"-n", "9999", path}} {
			out, complaint, err := reader(t, args...)
			if err != nil && !strings.HasPrefix(complaint, "scoreboard-reader: ") || err != nil && begin > 0 {
				t.Errorf("%v: %v %s", args, err, complaint)
			}
			if err == nil && args[0] == "--json" && !json.Valid(out) {
				t.Errorf("no JSON: %.300s", out)
			}
			if bytes.ContainsFunc(out, func(c rune) bool { return c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 || c == 0x202e }) {
				t.Errorf("%v: it prints what moves a cursor: %.300q", args, out)
			}
		}
	}
}
