package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const tail = " 123 456 456 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	want := status{'S', 123, 9876, true}
	for _, name := range []string{"sh", "", "a b", "a) R 1 2 (b", ")", "((", "a\nb", "x) Z 7"} {
		got, err := parseStat([]byte("45 (" + name + ") S" + tail))
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "45 (sh", "45 (sh)", "45 (sh) S 1 2", "45 (sh) SS" + tail, "45 (sh) S -1" + tail[4:], "45 (sh) S x" + tail[4:]} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("45 (a) R 1 (b) S" + tail))
	f.Add([]byte("45 (sh) S 1 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStat(b)
		if err != nil {
			if s != (status{}) {
				t.Errorf("%+v with %v", s, err)
			}
			return
		}
		if s.ppid < 0 || s.state == 0 {
			t.Errorf("got %+v", s)
		}
		// The name decides nothing.
		if again, err := parseStat(append([]byte("1 (x) Z 7 "), b...)); err != nil || again != s {
			t.Errorf("got %+v, %v behind a hostile name, want %+v", again, err, s)
		}
	})
}

// Everybody may choose his name (prctl(2), PR_SET_NAME).
func TestStatOfHostileName(t *testing.T) {
	const name = "x) Z 1 (\n"
	tok := newToken(t)
	c := start(t, tok.command("sleep", "1000"))
	until(t, "sleep runs", func() bool { return tok.named(t, "sleep") == 1 })
	if err := os.WriteFile(theProc.dir(c.Process.Pid)+"/comm", []byte(name), 0); err != nil {
		t.Skip("the kernel lets nobody rename another process:", err)
	}
	s, err := theProc.stat(c.Process.Pid)
	if err != nil || s.ppid != os.Getpid() || s.ended() {
		t.Errorf("got %+v, %v", s, err)
	}
}

// fakeProc makes a /proc of files.
func fakeProc(t *testing.T, files map[string]string) proc {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return proc(dir)
}

func TestTables(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	stat := func(pid, ppid string) string { return pid + " (x) S " + ppid + tail[4:] }
	files := map[string]string{
		"7/stat": stat("7", "1"), "7/task/7/stat": stat("7", "1"), "7/task/8/stat": stat("8", "1"),
		"9/stat": stat("9", "7"), "10/stat": stat("10", "7"), "11/stat": stat("11", "9"), "uptime": "1",
	}
	all := fakeProc(t, files)
	files["7/task/7/children"], files["7/task/8/children"], files[self+"/task/"+self+"/children"] = "9 ", "10 ", ""
	own := fakeProc(t, files)
	for _, p := range []proc{all, own} {
		table := tableOf(p)
		if _, scans := table.(*scan); scans != (p == all) {
			t.Errorf("chose %T", table)
		}
		got, err := childrenOf(p, table, 7)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, []int{9, 10}) {
			t.Errorf("%T: got %v, %v; want 9 and 10", table, got, err)
		}
	}
	// A thread that has ended has left its children to another one.
	if got, err := (lists{own}).children(7, []int{6, 8}); err != nil || !slices.Equal(got, []int{10}) {
		t.Errorf("got %v, %v; want 10", got, err)
	}
}

// Both tables say the same of a process that nobody has just started.
func TestTablesAgree(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	if _, ok := tableOf(theProc).(lists); !ok {
		t.Skip("this kernel has no lists of children")
	}
	var walk func(table, int) ([]int, error)
	walk = func(tb table, pid int) ([]int, error) {
		kids, err := childrenOf(theProc, tb, pid)
		for _, kid := range slices.Clone(kids) {
			below, berr := walk(tb, kid)
			kids, err = append(kids, below...), errors.Join(err, berr)
		}
		slices.Sort(kids)
		return kids, err
	}
	// Shells of the family may still be about to become what they start.
	var last error
	if err := poll(func() bool {
		own, err1 := walk(lists{theProc}, c.Process.Pid)
		all, err2 := walk(&scan{proc: theProc}, c.Process.Pid)
		if last = errors.Join(err1, err2); last == nil && (!slices.Equal(own, all) || len(own) < sleepers) {
			last = fmt.Errorf("lists say %v, the scan says %v", own, all)
		}
		return last == nil
	}); err != nil {
		t.Error(err, last)
	}
}

func TestNoSuchProcess(t *testing.T) {
	p := proc(t.TempDir())
	_, err1 := p.stat(5)
	_, err2 := p.tasks(5)
	_, err3 := p.marked(5, []string{"A=B"})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want that it does not exist", err)
		}
	}
}

func TestMarked(t *testing.T) {
	p := fakeProc(t, map[string]string{"5/environ": "A=1\x00B=2\x00C=3"})
	for entry, want := range map[string]bool{"A=1": true, "B=2": true, "C=3": true, "A": false, "=2": false, "B=": false, "2": false} {
		if got, err := p.marked(5, []string{"X=Y", entry}); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", entry, got, err, want)
		}
	}
}

func TestHeld(t *testing.T) {
	p := fakeProc(t, map[string]string{
		"self/fdinfo/3": "pos:\t0\nflags:\t02000002\nmnt_id:\t4\nino:\t21\nPid:\t41\nNSpid:\t41\n",
		"self/fdinfo/4": "pos:\t0\nPid:\t42\n", "self/fdinfo/5": "pos:\t0\nPid:\t-1\n", "self/fdinfo/6": "Pid:\t43\n", "self/fd/x": "",
	})
	for fd, link := range map[string]string{"3": "anon_inode:[pidfd]", "4": "pidfd:[1234]", "5": "anon_inode:[pidfd]", "6": "/tmp/pidfd:[1]", "7": "socket:[1]"} {
		if err := os.Symlink(link, string(p)+"/self/fd/"+fd); err != nil {
			t.Fatal(err)
		}
	}
	want := map[int]bool{41: true, 42: true, -1: true}
	if got, err := p.held(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if err := os.WriteFile(string(p)+"/self/fdinfo/3", []byte("pos:\t0\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := p.held(); err == nil || !strings.Contains(err.Error(), "Pid") {
		t.Errorf("got %v, %v; want an error: who cannot be told must not be reaped", got, err)
	}
}

// What this kernel and this Go say of a command.
func TestHeldCommand(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if held, err := theProc.held(); err != nil || !held[pid] {
		t.Errorf("%d is not among %v (%v)", pid, held, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if held, err := theProc.held(); err != nil || held[pid] {
		t.Errorf("%d is still among %v (%v)", pid, held, err)
	}
}
