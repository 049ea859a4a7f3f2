package control

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := openDir(t)
	path := filepath.Join(dir, SocketName)
	if _, err := Dial(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a daemon: %v", err)
	}
	must(t, os.WriteFile(path, []byte("left by somebody"), 0o600))
	for range 2 { // the second takes the place of the first one's socket
		l, err := Listen(dir)
		must(t, err)
		st, err := os.Lstat(path)
		if err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%v (%v), want a socket with mode 0600", st.Mode(), err)
		}
		must(t, l.Close())
		// The name may be that of the next daemon's socket by now, so it stays.
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
		if _, err := Dial(dir); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("after the daemon: %v", err)
		}
	}
	if _, err := Listen(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("none/", 50))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a long directory: %v", err)
	}
}

// A path that does not fit into a socket's address serves as well as one that does.
func TestLongPath(t *testing.T) {
	base := t.TempDir()
	if len(base) > 80 {
		t.Skipf("%s is too long to begin with", base)
	}
	for _, length := range []int{100, 106, 107, 108, 109, 250, 1000} { // of the socket's path
		dir := base
		for left := length - len("/"+SocketName) - len(base); left > 0; left = length - len("/"+SocketName) - len(dir) {
			n := min(left-1, 200)
			if left-1-n == 1 { // a slash with nothing behind it would not do
				n--
			}
			dir += "/" + strings.Repeat("x", n)
		}
		must(t, os.MkdirAll(dir, 0o700))
		if n := len(filepath.Join(dir, SocketName)); n != length {
			t.Fatalf("made a path of %d bytes, wanted %d", n, length)
		}
		before := countFDs(t)
		l, err := Listen(dir)
		if err != nil {
			t.Errorf("%d bytes: %v", length, err)
			continue
		}
		if st, err := os.Lstat(filepath.Join(dir, SocketName)); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%d bytes: %v", length, err)
		}
		c, err := Dial(dir)
		if err != nil {
			t.Errorf("%d bytes: %v", length, err)
		} else {
			c.Close()
		}
		l.Close()
		if after := countFDs(t); after != before {
			t.Errorf("%d bytes: %d descriptors before, %d after", length, before, after)
		}
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

// Another user is kept out by the directory, by the socket's mode, and by who he is.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user as well")
	}
	dir := openDir(t)
	received := listen(t, dir, Reply{OK: true})
	dial := func() string { return output(t, role("dial", dir, nobody)) }
	if s := dial(); !strings.HasPrefix(s, "error: ") || !strings.HasSuffix(s, "permission denied") {
		t.Errorf("with the directory closed: %q", s)
	}
	must(t, os.Chmod(dir, 0o755))
	if s := dial(); !strings.HasPrefix(s, "error: ") || !strings.HasSuffix(s, "permission denied") {
		t.Errorf("with the directory open: %q", s)
	}
	if len(received) != 0 {
		t.Fatalf("received %+v", <-received)
	}
	must(t, os.Chmod(filepath.Join(dir, SocketName), 0o666))
	want := fmt.Sprintf(`peer %d 0: false "" "user 65534 may not steer this daemon"`, os.Getpid())
	for range 20 { // whether he is refused before he has asked or after
		if s := dial(); s != want {
			t.Errorf("with everything open: %q, want %q", s, want)
		}
		if g := <-received; g.err == nil || g.UID != nobody || g.Request != (Request{}) {
			t.Errorf("received %+v", g)
		}
	}
}

// Everybody steers his own daemon, and root that of anybody.
func TestRootSteers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, uid := range []int{nobody, 0} {
		dir := openDir(t)
		must(t, os.Chown(dir, nobody, nobody))
		cmd := role("serve", dir, nobody)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewReader(out)
		if s, err := lines.ReadString('\n'); s != "ready\n" {
			t.Fatalf("%q, %v", s, err)
		}
		if s, want := output(t, role("dial", dir, uid)), fmt.Sprintf(`peer %d %d: true "" ""`, cmd.Process.Pid, nobody); s != want {
			t.Errorf("user %d is told %q, want %q", uid, s, want)
		}
		if s, err := lines.ReadString('\n'); s != fmt.Sprintf("stop %d <nil>\n", uid) {
			t.Errorf("user %d: %q, %v", uid, s, err)
		}
		must(t, cmd.Wait())
	}
}
