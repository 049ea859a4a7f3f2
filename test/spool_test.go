package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spoolAttempts is after how many attempts the spools of these tests give a job up.
const spoolAttempts = 5

// A spool is an examples/spool that runs, and its directory.
type spool struct {
	*server
	site *site
	dir  string
}

// openSpool starts one in which nobody waits long.
func openSpool(t *testing.T) *spool {
	t.Helper()
	s := openSite(t)
	sp := &spool{site: s, dir: filepath.Join(s.dir, "spool")}
	sp.start(t)
	return sp
}

// start starts the daemon, once more if it was there before.
func (sp *spool) start(t *testing.T) {
	t.Helper()
	sp.server = mustServe(t, sp.site, "spool", "-run-dir", filepath.Join(sp.site.dir, "run"), "-spool", sp.dir, "-attempts", strconv.Itoa(spoolAttempts),
		"-backoff", "20ms", "-dequeue-every", "100ms")
}

// put hands in a job as a client does who waits for so long, and returns its id.
func (sp *spool) put(text string, limit time.Duration) (string, error) {
	conn, err := dial(sp.addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	id, whole := strings.CutSuffix(string(b), "\n")
	if err != nil || !whole || strings.Contains(id, " ") {
		return "", fmt.Errorf("put: %q, %v", b, err)
	}
	return id, nil
}

var spoolName = regexp.MustCompile(`^(.+):(\d+)@\d+$`)

// files returns the jobs in a directory of the spool, and how many attempts each has had.
func (sp *spool) files(dir string) (map[string]int, error) {
	entries, err := os.ReadDir(filepath.Join(sp.dir, dir))
	if err != nil {
		return nil, err
	}
	jobs := map[string]int{}
	for _, e := range entries {
		id, tries := e.Name(), 0
		if m := spoolName.FindStringSubmatch(id); m != nil {
			id = m[1]
			tries, _ = strconv.Atoi(m[2])
		} else if ext := filepath.Ext(id); ext == ".result" || ext == ".error" {
			continue
		}
		if _, double := jobs[id]; double {
			return nil, fmt.Errorf("job %s is twice in %s", id, dir)
		}
		jobs[id] = tries
	}
	return jobs, nil
}

// ended waits until a job is in done or failed, and returns after how many attempts and with what words.
func (sp *spool) ended(t *testing.T, dir, id string) (tries int, words string) {
	t.Helper()
	if err := eventually(patience, func() error {
		jobs, err := sp.files(dir)
		if _, there := jobs[id]; err == nil && !there {
			err = fmt.Errorf("job %s is not in %s", id, dir)
		}
		tries = jobs[id]
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ext := map[string]string{"done": ".result", "failed": ".error"}[dir]
	b, err := os.ReadFile(filepath.Join(sp.dir, dir, id+ext))
	if err != nil {
		t.Error(err)
	}
	return tries, string(b)
}

// mustPut is put for a test that loses nobody.
func (sp *spool) mustPut(t *testing.T, text string) string {
	t.Helper()
	id, err := sp.put(text, patience)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// gives checks how a job comes to its end.
func (sp *spool) gives(t *testing.T, id, dir string, tries int, words string) {
	t.Helper()
	if n, got := sp.ended(t, dir, id); n != tries || got != words+"\n" {
		t.Errorf("job %s: %d attempts and %q, want %d and %q", id, n, got, tries, words)
	}
}

// Jobs that work, that fail for a while, that always fail, and that nobody understands.
func TestSpoolJobs(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	sp := openSpool(t)
	good, twice := sp.mustPut(t, "words\nto be or\nnot to be"), sp.mustPut(t, "fail 2\n")
	always, what := sp.mustPut(t, "fail 99"), sp.mustPut(t, "whatever 1\n")
	sp.gives(t, good, "done", 1, "6")
	sp.gives(t, twice, "done", 3, "failed 2 times")
	sp.gives(t, always, "failed", spoolAttempts, "attempt 5: it is to fail 99 times")
	sp.gives(t, what, "failed", spoolAttempts, `attempt 5: kind of work "whatever 1": want words, sleep or fail`)
	// By hand, under a name that looks like more than it is; and what is no job is left alone and holds up nobody.
	waiting, long := filepath.Join(sp.dir, "new"), strings.Repeat("0", 255)
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(waiting, "0-link")), os.Mkdir(filepath.Join(waiting, "0-dir"), 0o750)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{long, "by:hand@7"} {
		temp := filepath.Join(sp.dir, "tmp", name)
		if err := errors.Join(os.WriteFile(temp, []byte("words\nfine"), 0o640), os.Rename(temp, filepath.Join(waiting, name))); err != nil {
			t.Fatal(err)
		}
	}
	sp.gives(t, "by:hand@7", "done", 1, "1")
	for _, name := range []string{"0-dir", "0-link", long} {
		if _, err := os.Lstat(filepath.Join(waiting, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := sp.await("died=0"); err != nil {
		t.Error(err)
	}
}

// A job in hand is finished when the code is reloaded and when the daemon stops or its parent dies; one whose daemon stops at
// once waits for the next as if nothing had been; one whose child is killed is begun again.
func TestSpoolJobInHand(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(sp *spool, worker int) error
		starts bool // once more
		tries  int
	}{
		"reload":        {func(sp *spool, _ int) error { return kill(sp.pid, syscall.SIGHUP) }, false, 1},
		"stop":          {func(sp *spool, _ int) error { return kill(sp.pid, syscall.SIGTERM) }, true, 1},
		"stop at once":  {func(sp *spool, _ int) error { return kill(sp.pid, syscall.SIGINT) }, true, 1},
		"parent killed": {func(sp *spool, _ int) error { return kill(sp.pid, syscall.SIGKILL) }, true, 1},
		"child killed":  {func(_ *spool, worker int) error { return kill(worker, syscall.SIGKILL) }, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sp := openSpool(t)
			id := sp.mustPut(t, "sleep 1500ms\n")
			worker, err := sp.pick("text=" + id + ", attempt 1")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.end(sp, worker); err != nil {
				t.Fatal(err)
			}
			if c.starts {
				if err := eventually(patience, func() error {
					if !sp.gone() {
						return errors.New("the daemon does not end")
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				sp.start(t)
			}
			sp.gives(t, id, "done", c.tries, "slept 1500ms")
		})
	}
}
