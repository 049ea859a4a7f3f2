package pidfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const someBoot = "01234567-89ab-cdef-0123-456789abcdef"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Identity
	}{
		{"1\nstart=0 boot=" + someBoot + "\n", Identity{1, 0, someBoot}},
		{"2147483647\nstart=18446744073709551615 boot=" + someBoot + "\n", Identity{1<<31 - 1, 1<<64 - 1, someBoot}},
	} {
		if got, err := parse([]byte(c.in)); err != nil || got != c.want {
			t.Errorf("parse(%q) = %+v, %v, want %+v", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{
		"", "\n", "1\n", "1\nstart=2\n", "1 2 " + someBoot + "\n", "1\nstart=2 boot=" + someBoot, // cut
		"0\nstart=2 boot=" + someBoot + "\n", "-1\nstart=2 boot=" + someBoot + "\n", "+1\nstart=2 boot=" + someBoot + "\n", "01\nstart=2 boot=" + someBoot + "\n",
		"2147483648\nstart=2 boot=" + someBoot + "\n", "1\nstart=18446744073709551616 boot=" + someBoot + "\n", "1\nstart=-2 boot=" + someBoot + "\n",
		"1\nstart=2  boot=" + someBoot + "\n", " 1\nstart=2 boot=" + someBoot + "\n", "1\nstart=2 boot=" + someBoot + " \n", "1\nstart=2 boot=" + someBoot + "\n\n",
		"1\nstart=2 boot=" + someBoot + "\r\n", "1\tstart=2 boot=" + someBoot + "\n", "1\nstart=2 boot=" + strings.ToUpper(someBoot) + "\n",
		"1\nstart=2 boot=" + strings.ReplaceAll(someBoot, "-", "0") + "\n", "0x1\nstart=2 boot=" + someBoot + "\n", "1\nstart=2 boot=x" + someBoot[1:] + "\n",
		strings.Repeat("1\nstart=2 boot="+someBoot+"\n", 3),
	} {
		if got, err := parse([]byte(in)); err == nil {
			t.Errorf("parse(%q) = %+v, want an error", in, got)
		}
	}
}

func TestReadLongAndMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if _, err := Read(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v, want ErrNotExist", err)
	}
	// A good line with a tail beyond what is read is not a good file.
	good := "1\nstart=2 boot=" + someBoot + "\n"
	if err := os.WriteFile(path, []byte(good+strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := Read(path); err == nil {
		t.Errorf("long: %+v, want an error", id)
	}
}

func TestParseStat(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n"
	for _, name := range []string{"sleep", "a b", "a) R 1 (b", "((", "))", ") S", "", "\xff"} {
		state, start, err := parseStat([]byte("77 (" + name + ")" + tail))
		if state != 'S' || start != 4242 || err != nil {
			t.Errorf("name %q: %c, %d, %v", name, state, start, err)
		}
	}
	for _, in := range []string{"", "77", "77 (x)", "77 (x) S 1 2", "77 (x" + tail, "77 (x)" + strings.Replace(tail, "4242", "-1", 1),
		"77 (x)" + strings.Replace(tail, "S", "SS", 1)} {
		if _, _, err := parseStat([]byte(in)); err == nil {
			t.Errorf("parseStat(%q) gives no error", in)
		}
	}
}

func TestIdentityOfOddName(t *testing.T) {
	p := start(t, "renamed", "x) Z 1 2 (")
	p.says("ready")
	id, err := Of(p.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if id.Start < self.Start || !id.Alive() || self.PID != os.Getpid() || !self.Alive() {
		t.Errorf("id %+v (alive %v), self %+v (alive %v)", id, id.Alive(), self, self.Alive())
	}
}

func TestOpen(t *testing.T) { // B1
	cmd := stranger(t)
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	later, earlier, otherBoot := id, id, id
	later.Start++
	earlier.Start--
	otherBoot.BootID = someBoot
	before := countFds(t)
	for _, wrong := range []Identity{later, earlier, otherBoot, {}, {PID: id.PID}, {PID: -1}, {PID: 1 << 30}} {
		if wrong.Alive() {
			t.Errorf("%+v is said to be alive", wrong)
		}
		if fd, err := wrong.Open(); !errors.Is(err, unix.ESRCH) || fd != -1 {
			t.Errorf("%+v: Open gives %d, %v, want ESRCH", wrong, fd, err)
		}
	}
	if after := countFds(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if !id.Alive() {
		t.Fatal("the right identity is not alive")
	}
	fd, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	// Nobody waits for it yet, so it stays a zombie: there, but not alive.
	until(t, "the process is a zombie", func() bool {
		state, _, err := statOf(id.PID)
		return err == nil && state == 'Z'
	})
	if id.Alive() {
		t.Error("a zombie is said to be alive")
	}
	if _, err := id.Open(); !errors.Is(err, unix.ESRCH) {
		t.Errorf("zombie: %v, want ESRCH", err)
	}
	if again, err := Of(id.PID); err != nil || again != id {
		t.Errorf("zombie: Of gives %+v, %v, want %+v", again, err, id)
	}
	cmd.Wait()
	if id.Alive() {
		t.Error("a reaped process is said to be alive")
	}
	if _, err := Of(id.PID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reaped: Of gives %v, want ErrNotExist", err)
	}
}

// The start time is what ps computes its STARTED from; compare with the kernel's own words for a process we start.
func TestStartOrder(t *testing.T) {
	var last uint64
	for range 3 {
		cmd := exec.Command("sleep", "0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		id, err := Of(cmd.Process.Pid) // a zombie will do
		cmd.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if id.Start < last {
			t.Errorf("start %d after %d", id.Start, last)
		}
		last = id.Start
	}
}

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := Identity{
			PID:    rapid.IntRange(1, 1<<31-1).Draw(t, "pid"),
			Start:  rapid.Uint64().Draw(t, "start"),
			BootID: rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`).Draw(t, "boot"),
		}
		line := id.text()
		if got, err := parse(line); err != nil || got != id || len(line) > maxContent {
			t.Fatalf("%q: %+v, %v", line, got, err)
		}
		for i, word := range strings.Fields(string(line)) {
			if _, err := strconv.Atoi(word); i > 0 && err == nil {
				t.Fatalf("%q: who sends a signal to all that is in it reaches %s as well", line, word)
			}
		}
		cut := rapid.IntRange(0, len(line)-1).Draw(t, "cut")
		if got, err := parse(line[:cut]); err == nil {
			t.Fatalf("cut to %q: %+v", line[:cut], got)
		}
	})
}

func TestStatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "name")
		start := rapid.Uint64().Draw(t, "start")
		b := fmt.Appendf(nil, "1 (%s) R%s %d%s\n", name, strings.Repeat(" 7", 18), start, strings.Repeat(" 8", 30))
		state, got, err := parseStat(b)
		if state != 'R' || got != start || err != nil {
			t.Fatalf("%q: %c, %d, %v", b, state, got, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1\nstart=2 boot=" + someBoot + "\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := parse(b); err == nil && !bytes.Equal(id.text(), b) {
			t.Errorf("%q reads as %+v, which is written %q", b, id, id.text())
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("77 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(b) })
}
