package scoreboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
)

func openRing(t testing.TB, path string) *Ring {
	t.Helper()
	r, err := OpenRing(path)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// since returns the events above seq.
func since(t testing.TB, r *Ring, seq uint64) []Event {
	t.Helper()
	events, err := r.Since(seq)
	must(t, err)
	return events
}

// checkEvents fails if what a reader has made of any bytes is out of its limits.
func checkEvents(t testing.TB, events []Event) {
	t.Helper()
	for i, e := range events {
		if e.Seq == 0 || i > 0 && e.Seq <= events[i-1].Seq || e.PID < 0 || e.PID > 1<<22 || e.Slot < -1 || e.Slot >= MaxSlots || len(e.Text) > 440 {
			t.Fatalf("out of order or of its limits: %+v", e)
		}
	}
	if out, err := json.Marshal(events); err != nil || bytes.ContainsFunc(out, func(r rune) bool { return r < ' ' }) {
		t.Fatalf("JSON: %v %q", err, out)
	}
}

func TestEventRoundTrip(t *testing.T) { // B48
	b := create(t, 3)
	r := openRing(t, b.path)
	seq := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		num := func(name string) uint64 { return rapid.Uint64().Draw(rt, name) }
		pids := rapid.IntRange(0, 1<<22)
		want := Event{
			Time: time.Unix(0, rapid.Int64Min(1).Draw(rt, "time")), Kind: EventKind(rapid.Uint32().Draw(rt, "kind")), PID: pids.Draw(rt, "pid"),
			Slot: rapid.IntRange(-1, MaxSlots-1).Draw(rt, "slot"), Generation: num("generation"), Job: num("job"), Done: num("done"),
			Text: rapid.OneOf(rapid.StringN(0, 600, -1), rapid.SampledFrom([]string{"\x1b[2J\n\xff", "€\x00hidden"})).Draw(rt, "text"),
		}
		if rapid.Bool().Draw(rt, "operator") {
			want.Operator = &Operator{UID: rapid.Uint32Max(1<<32-2).Draw(rt, "uid"), PID: pids.Draw(rt, "operator's pid")}
		}
		must(t, b.Record(want))
		seq++
		want.Seq, want.Text = seq, cut(want.Text, 440)
		got := since(t, r, seq-1)
		if diff := cmp.Diff([]Event{want}, got); diff != "" {
			rt.Errorf("want (-) against got (+):\n%s", diff)
		}
		checkEvents(t, got)
	})
}

// The ring holds the last 512 events; a reader sees from the numbers what it has missed.
func TestRingOverrun(t *testing.T) {
	b := create(t, 1)
	r := openRing(t, b.path)
	for n := range uint64(1500) {
		if wraps := (n+5)%512 <= 10; !wraps && n%41 != 0 { // each look reads all of them
			must(t, b.Record(Event{Slot: -1}))
			continue
		}
		if got := since(t, r, 0); uint64(len(got)) != min(n, 512) || n > 0 && got[len(got)-1].Seq != n {
			t.Fatalf("after %d: %d events, want the last 512", n, len(got))
		}
		if got := since(t, r, n); len(got) != 0 {
			t.Fatalf("after %d: new is %+v, want nothing", n, got)
		}
		must(t, b.Record(Event{Slot: -1}))
	}
	if got := since(t, r, 500); got[0].Seq != 1500-511 {
		t.Errorf("the oldest is %d, want %d", got[0].Seq, 1500-511)
	}
}

// An upgrade goes on with the numbers that it is told, whatever stands in the file.
func TestRingAdopted(t *testing.T) {
	b := create(t, 1)
	for range 3 {
		must(t, b.Record(Event{Slot: -1, Text: "before"}))
	}
	fd, err := unix.Dup(b.FD())
	must(t, err)
	next, err := Adopt(b.path, fd, Identity{Name: "test"}, 1, b.Recorded())
	must(t, err)
	must(t, next.Record(Event{Slot: -1, Text: "after"}))
	got := since(t, openRing(t, b.path), 2)
	if len(got) != 2 || got[0].Text != "before" || got[1].Seq != 4 || got[1].Text != "after" {
		t.Errorf("got %+v", got)
	}
	must(t, next.Remove())
}

// Who follows reads what was written last, also when the daemon has taken the file away.
func TestRingOutlivesFile(t *testing.T) {
	b := create(t, 1)
	r := openRing(t, b.path)
	must(t, b.Record(Event{Slot: -1, Text: "the last"}))
	must(t, b.Remove())
	if got := since(t, r, 0); len(got) != 1 || got[0].Text != "the last" {
		t.Errorf("got %+v", got)
	}
	if r.Identity().Name != "test" {
		t.Errorf("they are those of %+v", r.Identity())
	}
	if err := b.Record(Event{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("written after that: %v, want ErrClosed", err)
	}
}

// One event is written after the other while somebody reads: none is torn, none is missing, whoever is faster.
func TestRingConcurrent(t *testing.T) { // B47
	b := inMemory(t, 1)
	r := openRing(t, b.path)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			// Every part of it tells n.
			if err := b.Record(Event{Slot: int(n % 1000), PID: int(n % 4000), Generation: n, Job: n, Done: n, Text: strings.Repeat(string(rune('a'+n%26)), 440)}); err != nil {
				stopped <- err
				return
			}
			spin(rand.Uint64N(20_000))
		}
	}()
	begun, last, looked := time.Now(), uint64(0), 0
	for ; another(looked, 2000, begun, last > 2000); looked++ {
		events := since(t, r, last)
		for _, e := range events {
			if n := e.Seq; e.Generation != n || e.Job != n || e.Done != n || e.PID != int(n%4000) || e.Slot != int(n%1000) ||
				strings.Trim(e.Text, string(rune('a'+n%26))) != "" || len(e.Text) != 440 {
				t.Fatalf("a mix: %+v", e)
			}
			if newest := events[len(events)-1].Seq; e.Seq != last+1 && e.Seq-1+Events > newest+1 {
				t.Fatalf("event %d after event %d, up to %d", e.Seq, last, newest)
			}
			last = e.Seq
		}
	}
	close(stop)
	must(t, <-stopped)
	t.Logf("%d events in %d looks", last, looked)
	if last < 2000 {
		t.Errorf("%d events in %d looks: too few to mean anything", last, looked)
	}
}

// What is torn or damaged is left out, and the others are there.
func TestRingDamaged(t *testing.T) { // B47
	b := create(t, 1)
	for range 10 {
		must(t, b.Record(Event{Slot: -1, Text: overlong(1)}))
	}
	good, err := os.ReadFile(b.path)
	must(t, err)
	at := func(n int) int { return offset(1) + n*EventSize }
	for name, damage := range map[string]func(data []byte){
		"torn":                 func(d []byte) { copy(d[at(5)+256:at(6)], make([]byte, 256)) },
		"number alone":         func(d []byte) { order.PutUint64(d[at(5):], 1029) },
		"one bit":              func(d []byte) { d[at(5)+eText+100] ^= 1 },
		"the sum":              func(d []byte) { d[at(5)+eSum] ^= 1 },
		"zeros":                func(d []byte) { clear(d[at(5):at(6)]) },
		"a copy":               func(d []byte) { copy(d[at(5):at(6)], d[at(7):at(8)]) },
		"0xff":                 func(d []byte) { copy(d[at(5):at(6)], bytes.Repeat([]byte{0xff}, EventSize)) },
		"in a place never had": func(d []byte) { copy(d[at(5):at(6)], d[at(300):at(301)]); copy(d[at(300):], d[at(5):at(6)]) },
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(good)
			damage(data)
			path := filepath.Join(t.TempDir(), "scoreboard")
			must(t, os.WriteFile(path, data, 0o600))
			got := since(t, openRing(t, path), 0)
			checkEvents(t, got)
			if len(got) != 9 || got[3].Seq != 4 || got[4].Seq != 6 || got[8].Seq != 10 {
				t.Errorf("got %+v", got)
			}
		})
	}
	// A file that is cut while somebody follows is an error of the next look.
	r := openRing(t, b.path)
	must(t, os.Truncate(b.path, int64(at(20))))
	if got, err := r.Since(0); !errors.Is(err, ErrLayout) {
		t.Errorf("cut: %+v, %v; want ErrLayout", got, err)
	}
}

// Any bytes are no event, or one within its limits: with a right sum, too.
func FuzzRing(f *testing.F) {
	f.Add([]byte{})
	f.Add(Event{Seq: 1, Kind: EventGone, Slot: 3, PID: 77, Job: 9, Text: "\x1b[2J"}.encode())
	f.Add(bytes.Repeat([]byte{0xff}, EventSize))
	f.Fuzz(func(t *testing.T, record []byte) {
		ring := make([]byte, Events*EventSize)
		n := copy(ring[EventSize:], record)
		r := &Ring{f: bytes.NewReader(ring), all: make([]byte, len(ring))}
		checkEvents(t, since(t, r, 0))
		one := ring[EventSize : 2*EventSize]
		order.PutUint64(one[eSequence:], order.Uint64(one)/Events*Events+1)
		order.PutUint64(one[eSum:], sum(one))
		got := since(t, r, 0)
		checkEvents(t, got)
		if len(got) != 1 {
			t.Fatalf("%d bytes with a right sum: %+v", n, got)
		}
		r.f = io.NewSectionReader(bytes.NewReader(ring), 0, int64(n))
		if _, err := r.Since(0); !errors.Is(err, ErrLayout) {
			t.Fatalf("cut short: %v", err)
		}
	})
}

// An event that is written behind the back of a reader, and the next one before his eyes, is found at the next look. One that
// is never there is not waited for.
func TestRingBetween(t *testing.T) {
	ring := func(numbers ...uint64) []byte {
		b := make([]byte, Events*EventSize)
		for _, n := range numbers {
			copy(b[int(n%Events)*EventSize:], Event{Seq: n}.encode())
		}
		return b
	}
	for _, c := range []struct {
		name  string
		reads changing
		since uint64
		want  []uint64
	}{
		{"at rest", changing{ring(1, 2, 3)}, 0, []uint64{1, 2, 3}},
		{"one behind", changing{ring(1, 3), ring(1, 2, 3)}, 0, []uint64{1, 2, 3}},
		{"the first behind", changing{ring(4, 5), ring(3, 4, 5)}, 2, []uint64{3, 4, 5}},
		{"nothing is new", changing{ring(1, 2)}, 2, nil},
		{"damaged", changing{ring(1, 3)}, 0, []uint64{1, 3}},
		{"a number that cannot be", changing{ring(1, 1<<64-1)}, 0, []uint64{1, 1<<64 - 1}},
	} {
		r := &Ring{f: &c.reads, all: make([]byte, Events*EventSize)}
		var got []uint64
		for _, e := range since(t, r, c.since) {
			got = append(got, e.Seq)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: want (-) against got (+):\n%s", c.name, diff)
		}
	}
}
