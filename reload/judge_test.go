package reload

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func testJudge(t *testing.T) *judge {
	p := &plan{settle: quick, maxSettle: quick}
	return &judge{
		ctx: t.Context(), plan: p, note: newNotifier(linux, nil), writers: leaseProbe,
		known: make(map[string]entry), prior: make(map[string]entry),
	}
}

func see(t *testing.T, path string) (*snapshot, found) {
	t.Helper()
	st, err := lstamp(path)
	try(t, err)
	f := found{stamp: st, real: path, dir: filepath.Dir(path), named: true}
	return &snapshot{files: map[string]found{path: f}}, f
}

// outcome compares a snapshot, says what became of its only file, and has the next look confirm it.
func outcome(j *judge, snap *snapshot, now time.Time, calm bool) string {
	c := j.compare(snap, now, calm)
	defer func() { j.hold(c) }()
	switch {
	case len(c.changed) == 1 && len(c.moving) == 0:
		return "changed"
	case len(c.changed) == 0 && len(c.moving) == 1:
		return "moving"
	case len(c.changed)+len(c.moving) == 0:
		return "same"
	}
	return "confused"
}

// TestRest goes through the reasons to believe that a changed file is at rest, or not.
func TestRest(t *testing.T) {
	t.Parallel()
	later := 10 * quick // after the file was written
	tests := map[string]struct {
		calm    bool
		writers writing
		program bool
		watched time.Duration // before the look
		after   time.Duration // from writing to the look
		want    string        // of the first look; the second one always believes it, unless somebody writes
	}{
		"quiet":                                 {calm: true, watched: quick, after: later, want: "changed"},
		"not quiet":                             {calm: false, watched: quick, after: later, want: "moving"},
		"quiet in a directory watched too late": {calm: true, watched: quick / 2, after: later, want: "moving"},
		"quiet but just written":                {calm: true, watched: quick, after: quick * 3 / 4, want: "moving"},
		"quiet but written during the look":     {calm: true, watched: quick, after: -time.Millisecond, want: "moving"},
		"quiet, clock of a server is ahead":     {calm: true, watched: quick, after: -time.Hour, want: "changed"},
		"program":                               {calm: true, watched: quick, after: later, program: true, writers: nobody, want: "changed"},
		"program, not quiet":                    {calm: false, watched: quick, after: later, program: true, writers: nobody, want: "moving"},
		"program, nobody can tell":              {calm: true, watched: quick, after: later, program: true, writers: unknown, want: "moving"},
		"program, still written":                {calm: true, watched: quick, after: later, program: true, writers: somebody, want: "moving"},
		"no program, still written":             {calm: true, watched: quick, after: later, writers: somebody, want: "changed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			mode := os.FileMode(0o644)
			if tt.program {
				mode = 0o755
			}
			path := writeMode(t, filepath.Join(t.TempDir(), "f"), "new", mode)
			snap, f := see(t, path)
			now := time.Unix(0, f.ctime).Add(tt.after)
			j := testJudge(t)
			j.writers = func(string) writing { return tt.writers }
			j.note.dirs[f.dir] = &watched{since: now.Add(-tt.watched)}
			j.known[path] = entry{stamp: stamp{mode: f.mode, size: 99}}
			if got := outcome(j, snap, now, tt.calm); got != tt.want {
				t.Errorf("first look: %s, want %s", got, tt.want)
			}
			want := "changed"
			if tt.program && tt.writers == somebody {
				want = "moving"
			}
			if got := outcome(j, snap, now, false); got != want {
				t.Errorf("second look: %s, want %s", got, want)
			}
		})
	}
}

// A file that is missing from a tree is removed when events or a second look confirm it.
func TestRemovedFromTree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		calm, short bool
		want        string
	}{
		{true, false, "changed"},
		{false, false, "moving"},
		{true, true, "moving"}, // not all is watched: quiet proves nothing
	} {
		j := testJudge(t)
		j.note.short = tt.short
		j.known["/tree/f"] = entry{}
		empty := &snapshot{}
		if got := outcome(j, empty, epoch, tt.calm); got != tt.want {
			t.Errorf("%+v: first look: %s", tt, got)
		}
		if got := outcome(j, empty, epoch, false); got != "changed" {
			t.Errorf("%+v: second look: %s", tt, got)
		}
	}
	// One that was moving before it was missing has not been missing twice.
	j := testJudge(t)
	j.known["/tree/f"] = entry{}
	j.prior["/tree/f"] = entry{stamp: stamp{size: 1}}
	if got := outcome(j, &snapshot{}, epoch, false); got != "moving" {
		t.Errorf("moving, then missing: %s", got)
	}
}

// A file that was written in the instant in which it was looked at may be written again without a new stamp.
func TestYoungStamp(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "f"), "new")
	snap, f := see(t, path)
	e, err := f.read(t.Context(), true)
	try(t, err)
	if !e.young {
		t.Fatal("a file just written is not young")
	}
	j := testJudge(t)
	e.sum = [32]byte{} // it was "old" under the same stamp
	j.known[path] = e
	c := j.compare(snap, time.Now(), false)
	if len(c.moving) != 1 || len(c.changed) != 0 {
		t.Fatalf("first look: %+v", c)
	}
	c = j.compare(snap, time.Now(), false)
	if len(c.moving) != 0 || len(c.changed) != 1 {
		t.Fatalf("second look: %+v", c)
	}
}

// A look at files whose stat is the same reads nothing.
func TestSameStampReadsNothing(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "f"), "1")
	try(t, os.Chtimes(path, epoch, epoch))
	snap, f := see(t, path)
	e, err := f.read(t.Context(), true)
	try(t, err)
	j := testJudge(t)
	j.known[path] = e
	f.real = "/nowhere" // reading would fail and make it a moving file
	snap.files[path] = f
	if c := j.compare(snap, time.Now(), false); len(c.moving)+len(c.changed) != 0 {
		t.Errorf("got %+v", c)
	}
}
