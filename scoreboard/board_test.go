package scoreboard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
)

// cut is what a field of n bytes keeps of a text.
func cut(s string, n int) string { return text([]byte((s + strings.Repeat("\x00", n))[:n])) }

func TestRoundTrip(t *testing.T) { // B48, B49
	dir := t.TempDir()
	texts := rapid.OneOf(rapid.String(), rapid.StringN(60, 700, -1), rapid.SampledFrom([]string{"", "ä", "\xff\xfe", "€\x00hidden"}))
	times := rapid.Custom(func(rt *rapid.T) time.Time {
		if ns := rapid.Int64Min(0).Draw(rt, "ns"); ns != 0 {
			return time.Unix(0, ns)
		}
		return time.Time{}
	})
	rapid.Check(t, func(rt *rapid.T) {
		str := func(name string) string { return texts.Draw(rt, name) }
		num := func(name string) uint64 { return rapid.Uint64().Draw(rt, name) }
		slots := rapid.IntRange(1, 40).Draw(rt, "slots")
		slot := rapid.IntRange(0, slots-1).Draw(rt, "slot")
		pids := rapid.IntRange(1, 1<<22)
		id := Identity{
			Name: str("name"), PID: pids.Draw(rt, "pid"), Start: num("start"), BootID: str("boot id"),
			Program: str("program"), PIDFile: str("pid file"), ErrorLog: str("error log"),
		}
		b, err := Create(filepath.Join(dir, "scoreboard"), id, slots)
		must(t, err)
		defer b.Remove()
		st := Status{
			State: str("state"), Generation: num("generation"), Rolling: num("rolling"), Want: rapid.IntMin(0).Draw(rt, "want"),
			Born: num("born"), Died: num("died"), Killed: num("killed"), Lost: num("lost"), Done: num("done"), Skipped: num("skipped"), Refused: num("refused"),
			ReloadAt: times.Draw(rt, "reload at"), ReloadOK: rapid.Bool().Draw(rt, "reload ok"), Reload: str("reload"),
		}
		updated := times.Filter(func(at time.Time) bool { return !at.IsZero() }).Draw(rt, "updated")
		listen, cause := str("listen"), str("cause")
		must(t, errors.Join(b.SetStatus(st, updated), b.SetListen(listen)))
		want := &Snapshot{Identity: id, Status: st, Updated: updated, Listen: cut(listen, listenLen), Slots: slots}
		want.Name, want.BootID, want.Program = cut(id.Name, nameLen), cut(id.BootID, bootLen), cut(id.Program, programLen)
		want.PIDFile, want.ErrorLog = cut(id.PIDFile, pathLen), cut(id.ErrorLog, pathLen)
		want.State, want.Reload = cut(st.State, stateLen), cut(st.Reload, reloadLen)

		c := Child{
			Slot: slot, PID: pids.Draw(rt, "child"), Generation: num("its generation"), State: Working, Since: updated,
			Born: updated, Cause: cut(cause, causeLen), Done: num("done"), Skipped: 1, Refused: 1, Running: uint64(rapid.IntMin(0).Draw(rt, "running")),
			Revoked: num("revoked"),
		}
		r := Record{
			Serial: num("job"), Started: time.Unix(0, rapid.Int64Min(1).Draw(rt, "started")), Inode: num("inode"),
			Client: str("client"), Text: str("text"),
		}
		oldest := num("oldest")
		must(t, errors.Join(
			b.Bear(slot, Serve, c.Generation, cause, c.Born), b.SetPID(slot, c.PID),
			b.SetPhase(slot, PhaseServing), b.SetRevoked(slot, c.Revoked)))
		s := attach(t, b, slot)
		s.SetWork(Work{State: c.State, Since: c.Since, Running: int(c.Running), Done: c.Done, Job: Record{Serial: oldest}})
		s.Skip()
		s.Refuse()
		s.Show(r)
		hint := Hint{State: Working, Serial: oldest, Done: c.Done, Skipped: 1, Refused: 1, Running: c.Running}
		if r.Serial != 0 {
			c.Job, c.Started, c.Inode, c.Client, c.Text = r.Serial, r.Started, r.Inode, cut(r.Client, clientLen), cut(r.Text, textLen)
			hint.Job, hint.Inode = r.Serial, r.Inode
		}
		want.Children = []Child{c}

		got, err := Read(b.path)
		must(t, err)
		want.Created = got.Created
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Errorf("Read, want (-) against got (+):\n%s", diff)
		}
		if diff := cmp.Diff(hint, hintOf(t, b, slot)); diff != "" {
			rt.Errorf("Look, want (-) against got (+):\n%s", diff)
		}
		if s.Revoked() != c.Revoked {
			rt.Errorf("the child sees that %d is revoked, want %d", s.Revoked(), c.Revoked)
		}
		must(t, b.Free(slot))
		if got, err = Read(b.path); err != nil || len(got.Children) != 0 {
			rt.Errorf("a slot that is free shows as %+v (%v)", got.Children, err)
		}
		if h := hintOf(t, b, slot); h != (Hint{}) {
			rt.Errorf("a slot that is free says %+v", h)
		}
	})
}

// A counter that has passed 32 bits goes on.
func TestCounters(t *testing.T) { // B48
	b := create(t, 1)
	must(t, b.Bear(0, Serve, 1, "", time.Now()))
	s := attach(t, b, 0)
	s.SetWork(Work{State: Idle, Done: 1<<32 + 1})
	s.word(sSkipped).Store(1<<32 - 1)
	s.Skip()
	s.Skip()
	if h := hintOf(t, b, 0); h.Done != 1<<32+1 || h.Skipped != 1<<32+1 {
		t.Errorf("%d done and %d skipped, want 2^32+1", h.Done, h.Skipped)
	}
	if c := only(t, b.path); c.Done != 1<<32+1 || c.Skipped != 1<<32+1 {
		t.Errorf("%d done and %d skipped, want 2^32+1", c.Done, c.Skipped)
	}
}

func TestAttention(t *testing.T) {
	b := create(t, 2)
	s := attach(t, b, 1)
	for _, on := range []bool{false, true, true, false} {
		must(t, b.SetAttention(Attention{Busy: on}))
		if s.Attention() != on {
			t.Errorf("the child sees %v, want %v", !on, on)
		}
	}
	// Nobody is spare here, so to leave fewer than one is cause enough.
	for below, want := range []bool{false, true, true} {
		must(t, b.SetAttention(Attention{Below: below}))
		if s.Attention() != want {
			t.Errorf("below %d: the child sees %v, want %v", below, !want, want)
		}
	}
	must(t, b.Bear(0, Serve, 1, "", time.Now()))
	must(t, b.SetAttention(Attention{Below: 1}))
	if s.Attention() {
		t.Error("a child is to ring though another one can take work")
	}
}

func TestFile(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	b := create(t, 1000)
	var st unix.Stat_t
	must(t, unix.Stat(b.path, &st))
	if st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("mode %#o, want a regular file, 0600", st.Mode)
	}
	want := int64(4096 + 1000*512 + 512*512)
	if st.Size != want || st.Blocks*512 < want {
		t.Errorf("%d bytes in blocks of %d bytes, want %d and no holes", st.Size, st.Blocks*512, want)
	}
	if entries, _ := os.ReadDir(filepath.Dir(b.path)); len(entries) != 1 {
		t.Errorf("%d files in the directory, want 1", len(entries))
	}
	if flags, err := unix.FcntlInt(uintptr(b.FD()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor is not close-on-exec (%v)", err)
	}
	if b.Slots() != 1000 {
		t.Errorf("%d slots, want 1000", b.Slots())
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "scoreboard")
	for _, slots := range []int{-1, 0, MaxSlots + 1} {
		if _, err := Create(path, Identity{}, slots); err == nil || !strings.Contains(err.Error(), fmt.Sprint(slots)) {
			t.Errorf("%d slots: %v, want an error that tells the number", slots, err)
		}
	}
	if _, err := Create(filepath.Join(dir, "none", "scoreboard"), Identity{}, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	must(t, os.Mkdir(path, 0o700))
	must(t, os.WriteFile(filepath.Join(path, "mine"), nil, 0o600))
	if _, err := Create(path, Identity{}, 1); err == nil {
		t.Error("a directory has been replaced")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files are left, want 1", len(entries))
	}
}

// A disk without room ends in an error at the start, and not in children that die of SIGBUS later.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	cmd := roleCommand("full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if errors.Is(err, unix.EPERM) || strings.HasPrefix(string(out), "cannot mount") {
		t.Skipf("needs a mount namespace: %v %s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "no space left on device left: 0\n") {
		t.Errorf("got %q (%v), want no space and no file", out, err)
	}
}

// What is planted at either name is replaced, and what it leads to is left alone.
func TestPlanted(t *testing.T) {
	for _, name := range []string{"scoreboard", ".scoreboard.new"} {
		for _, kind := range []string{"symlink", "dangling", "hard link", "fifo"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
				must(t, os.WriteFile(victim, []byte("mine"), 0o644))
				plant := filepath.Join(dir, name)
				must(t, map[string]func() error{
					"symlink":   func() error { return os.Symlink(victim, plant) },
					"dangling":  func() error { return os.Symlink(victim+"2", plant) },
					"hard link": func() error { return os.Link(victim, plant) },
					"fifo":      func() error { return unix.Mkfifo(plant, 0o666) },
				}[kind]())
				path := filepath.Join(dir, "scoreboard")
				b, err := Create(path, Identity{Name: "new"}, 1)
				must(t, err)
				defer b.Remove()
				if got, err := os.ReadFile(victim); string(got) != "mine" {
					t.Errorf("the other file says %q (%v)", got, err)
				}
				if _, err := os.Lstat(victim + "2"); err == nil {
					t.Error("a file was made where the link leads")
				}
				if s, err := Read(path); err != nil || s.Name != "new" {
					t.Errorf("read %+v, %v", s, err)
				}
				if entries, _ := os.ReadDir(dir); len(entries) != 1 {
					t.Errorf("%d files in the directory, want 1", len(entries))
				}
			})
		}
	}
}

// A new board takes the place of an old one at once: whoever reads has the one or the other. Who has the old one mapped
// keeps it.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scoreboard")
	old, err := Create(path, Identity{Name: "0"}, 1)
	must(t, err)
	must(t, old.Bear(0, Serve, 1, "", time.Now()))
	s := attach(t, old, 0)

	const boards = 200
	done := make(chan error, 1)
	seen := map[string]bool{}
	go func() {
		for last := 0; last < boards; {
			got, err := Read(path)
			if err != nil {
				done <- err
				return
			}
			seen[got.Name] = true
			n := 0
			if fmt.Sscan(got.Name, &n); n < last {
				done <- fmt.Errorf("board %d after board %d", n, last)
				return
			}
			last = n
		}
		done <- nil
	}()
	for n := 1; n <= boards; n++ {
		b, err := Create(path, Identity{Name: fmt.Sprint(n)}, 1+n)
		must(t, err)
		defer b.Remove()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(seen) < 2 {
		t.Error("the reader has seen no board but the last")
	}
	s.SetWork(Work{State: Working, Running: 1, Job: Record{Serial: 77}})
	if h := hintOf(t, old, 0); h.Serial != 77 {
		t.Errorf("the old board says %+v, want job 77", h)
	}
	if got, _ := Read(path); len(got.Children) != 0 {
		t.Errorf("the old board's child is on the new one: %+v", got.Children)
	}

	// The old daemon is late; what it takes away must be its own.
	must(t, old.Remove())
	if got, err := Read(path); err != nil || got.Name != fmt.Sprint(boards) {
		t.Errorf("after the old board was removed: %+v, %v", got, err)
	}
}

func TestRemove(t *testing.T) {
	b := create(t, 1)
	must(t, b.Remove())
	if _, err := os.Lstat(b.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there (%v)", err)
	}
	if b.Remove() == nil {
		t.Error("a second Remove has nothing to say")
	}

	// The name may lead to this very file by way of a link; that link is not ours to take away.
	b = create(t, 1)
	must(t, os.Rename(b.path, b.path+".real"))
	must(t, os.Symlink(b.path+".real", b.path))
	must(t, b.Remove())
	if _, err := os.Lstat(b.path); err != nil {
		t.Error("a link of somebody else's has been removed")
	}
	os.Remove(b.path + ".real")
}
