package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// upgrade asks for an upgrade and waits for the answer.
func (d *server) upgrade() error {
	if out, err := d.site.command("brood", "upgrade", d.run).CombinedOutput(); err != nil || string(out) != "upgraded\n" {
		return fmt.Errorf("brood upgrade: %v: %s", err, out)
	}
	return nil
}

// executes returns an error unless a process runs the program that now lies at path.
func executes(pid int, path string) error {
	exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return err
	}
	file, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(exe, file) {
		return errors.New("the parent does not execute what lies at its path")
	}
	return nil
}

// kept is what an upgrade leaves as it is.
type kept struct {
	parent    string // the identity of the process
	children  []string
	listeners []string // sockets of the parent that have a place in its children, too
	lock      string
}

func keptBy(d *server) (k kept, err error) {
	if k.parent, err = identityOf(d.pid); err != nil {
		return k, err
	}
	st, err := d.status()
	if err != nil {
		return k, err
	}
	fds, err := descriptorsOf(d.pid)
	if err != nil {
		return k, err
	}
	for _, c := range st.Children {
		id, err := identityOf(c.PID)
		if err != nil {
			return k, err
		}
		k.children = append(k.children, fmt.Sprint(c.Slot, " ", c.Generation, " ", id))
	}
	theirs, err := descriptorsOf(st.Children[0].PID)
	if err != nil {
		return k, err
	}
	for _, target := range theirs {
		for _, own := range fds {
			if own == target && strings.HasPrefix(target, "socket:") {
				k.listeners = append(k.listeners, target)
			}
		}
	}
	slices.Sort(k.listeners)
	lock, err := os.Stat(filepath.Join(d.run, "pid"))
	if err != nil {
		return k, err
	}
	inode := lock.Sys().(*syscall.Stat_t)
	k.lock = fmt.Sprint(inode.Dev, " ", inode.Ino)
	return k, nil
}

// differs returns an error that says what is not the same.
func (k kept) differs(now kept) error {
	for _, x := range [][2][]string{
		{{k.parent}, {now.parent}}, {k.children, now.children}, {k.listeners, now.listeners}, {{k.lock}, {now.lock}},
	} {
		if !slices.Equal(x[0], x[1]) {
			return fmt.Errorf("was %q\nis  %q", x[0], x[1])
		}
	}
	return nil
}

// Ten upgrades under load, two builds by turns: no request is lost, the process, its children and their jobs, the listener and
// the lock stay what they are, and every line that children write in the meantime, a half of it before and the other after,
// is in the log once.
func TestTenUpgrades(t *testing.T) {
	t.Parallel()
	children := 30
	if testing.Short() || raceEnabled {
		children = 8
	}
	s := openSite(t)
	path, access := filepath.Join(s.dir, "prog"), filepath.Join(s.dir, "access.log")
	builds := []variant{{"broken", "B", ""}, {"broken", "A", ""}}
	for _, v := range builds {
		if err := v.deploy(path); err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.serve([]string{"BROOD_AUTO_RELOAD_WHEN=never"}, path, "-prefork", fmt.Sprint(children), "-concurrency", "4", "-break", "talk", "-access-log", access, "-access-format", "own")
	if err != nil {
		t.Fatal(err)
	}
	board := openBoard(t, d)
	before, err := keptBy(d)
	if err != nil || len(before.listeners) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	s.load = startLoad(d.addr + "/")
	long, err := ask(d.addr + "/sleep?for=3s")
	if err != nil {
		t.Fatal(err)
	}
	defer long.conn.Close()
	var second footprint
	for i := range 10 {
		if err := builds[i%2].deploy(path); err != nil {
			t.Fatal(err)
		}
		if err := d.upgrade(); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		if err := executes(d.pid, path); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		after, err := keptBy(d)
		if err == nil {
			err = before.differs(after)
		}
		if err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		if out, err := s.command(path, "-run-dir", d.run, "-listen", d.addr).CombinedOutput(); exitStatus(err) != 1 ||
			!strings.Contains(string(out), "already running") {
			t.Errorf("upgrade %d: a second daemon: %v: %s", i+1, err, out)
		}
		if i == 1 {
			if second, err = settled(d, board, children, func(footprint) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := settled(d, board, children, func(f footprint) error {
		if f.descriptors > second.descriptors {
			fds, _ := descriptorsOf(d.pid)
			return fmt.Errorf("after the second upgrade %+v, after the last %+v: %v", second, f, fds)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if body, err := long.answer(); err != nil || !strings.Contains(body, "build=A") {
		t.Errorf("the long job: %q, %v", body, err)
	}
	long.conn.Close()
	if err := s.load.finish(200); err != nil {
		t.Error(err)
	}
	if s.load.kept == 0 {
		t.Error("no connection was kept")
	}
	t.Log(s.load)
	st, err := d.await("state=serving", fmt.Sprintf("born=%d", children), "died=0", "killed=0", "reload_ok=true")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for stream, file := range map[string]string{"stream=stdout": d.log, "stream=stderr": d.log, "": access} {
		if err := talked(file, stream, st.Children); err != nil {
			t.Errorf("%s %s: %v", file, stream, err)
		}
	}
}

var talkPattern = regexp.MustCompile(`talk ([0-9]+) of ([0-9]+), (to be continued|the last)\b`)

// talked returns an error unless each of the children has written all its lines into the log of a stream once, in their order.
func talked(path, stream string, children []child) error {
	log, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	count, ended := map[string]int{}, map[string]bool{}
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte("talk ")) || !bytes.Contains(line, []byte(stream)) {
			continue
		}
		m := talkPattern.FindSubmatch(line)
		if m == nil || bytes.Count(line, []byte("talk ")) != 1 {
			return fmt.Errorf("half a line: %q", line)
		}
		pid := string(m[2])
		count[pid]++
		if want := fmt.Sprint(count[pid]); string(m[1]) != want || ended[pid] {
			return fmt.Errorf("instead of line %s: %q", want, line)
		}
		if !bytes.Contains(line, []byte("pid="+pid+" ")) {
			return fmt.Errorf("from somebody else: %q", line)
		}
		ended[pid] = string(m[3]) == "the last"
	}
	for _, c := range children {
		if pid := fmt.Sprint(c.PID); count[pid] < 10 || !ended[pid] {
			return fmt.Errorf("only %d lines of %s", count[pid], pid)
		}
	}
	return nil
}
