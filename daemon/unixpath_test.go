package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A path lets nobody in until it has the owner and the mode that its entry says; an upgrade sets them anew.
func TestUnixModeOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	is := func(when string, mode os.FileMode, uid, gid uint32) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != uint32(mode) || st.Uid != uid || st.Gid != gid {
			t.Errorf("%s: mode %04o, owner %d:%d, %v; want %04o, %d:%d", when, st.Mode&0o7777, st.Uid, st.Gid, err, mode, uid, gid)
		}
	}
	l, err := bind("unix", path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	is("bound", 0o600, 0, 0)
	l.close()

	p, _ := listeningParent(t)
	upgrade := func(entry string, mode os.FileMode, uid, gid uint32) {
		t.Helper()
		if len(p.listeners) > 0 {
			p.handed = &handover{Listeners: []handedListener{p.listeners[0].handed()}}
			p.listeners = nil
		}
		if _, err := p.ListenOn(path + entry); err != nil {
			t.Fatal(err)
		}
		is(entry, mode, uid, gid)
	}
	upgrade("", unixMode, 0, 0)
	upgrade(",mode=0606,owner=nobody:12345", 0o606, 65534, 12345)
	upgrade(",mode=0600,owner=:12346", 0o600, 0, 12346)
	upgrade(",owner=12345", unixMode, 12345, 0)
	p.identity = &identity{uid: 7, gid: 8}
	upgrade("", unixMode, 0, 8)
	upgrade(",owner=7", unixMode, 7, 8)
	upgrade(",owner=7:9", unixMode, 7, 9)
	p.identity = nil
	if err := os.Chown(dir, 0, 77); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755|os.ModeSetgid)
	upgrade("", unixMode, 0, 77)
	p.listeners[0].close()
	p.listeners = nil
	p.handed = nil
	upgrade("", unixMode, 0, 77) // as the kernel makes it

	// What somebody has put in its place is not touched.
	p.listeners[0].close()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	os.Symlink(other, path)
	if err := p.listeners[0].letIn(nil); err == nil || !strings.Contains(err.Error(), "another file by now") {
		t.Errorf("of another file: %v", err)
	}
	if st, err := os.Stat(other); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", st, err)
	}
	p.listeners = nil
}

// onAnotherThread calls f on a thread that ends with it. It is not the first one: what that gives up looks as if the process had
// (proc(5), /proc/pid/status).
func onAnotherThread(f func() error) error {
	done := make(chan error)
	var call func()
	call = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			passed := make(chan struct{})
			go func() {
				defer close(passed)
				call()
			}()
			<-passed
			return
		}
		done <- f()
	}
	go call()
	return <-done
}

// A unit file may leave root without the right to set the mode of others' files.
func TestUnixOwnerWithoutFowner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "s")
	p, _ := listeningParent(t)
	err := onAnotherThread(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_FOWNER
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			_, err = p.ListenOn(path + ",owner=7:8")
		}
		if err == nil {
			p.handed = &handover{Listeners: []handedListener{p.listeners[0].handed()}}
			p.listeners = nil
			_, err = p.ListenOn(path + ",owner=7:9,mode=0600")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != 0o600 || st.Uid != 7 || st.Gid != 9 {
		t.Errorf("mode %04o, owner %d:%d, %v", st.Mode&0o7777, st.Uid, st.Gid, err)
	}
}

// Who is not root is told what he lacks.
func TestUnixOwnerWithoutChown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p, _ := listeningParent(t)
	err := onAnotherThread(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capset(&header, &data[0])
		if err == nil {
			_, err = p.ListenOn(path + ",owner=12345")
		}
		return err
	})
	want := "cannot change the owner of " + path
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CAP_CHOWN") {
		t.Errorf("%v, want %q", err, want)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the path is left: %v", err)
	}
}

// A path is taken over if nobody listens there any more. Else the error says who or what is there, and it stays.
func TestUnixTakenPath(t *testing.T) {
	dir := t.TempDir()
	dead, alive, file := filepath.Join(dir, "dead"), filepath.Join(dir, "alive"), filepath.Join(dir, "file")
	unix.Close(keep(t, "unix", dead))
	ln, err := net.Listen("unix", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	p, _ := listeningParent(t)
	for path, want := range map[string]string{
		dead:  "",
		alive: fmt.Sprintf("address already in use: process %d (%s) listens on %s", os.Getpid(), strings.TrimSpace(string(comm)), alive),
		file:  file + " is no socket: remove it, or choose another path",
	} {
		_, err := p.ListenOn(path)
		if (want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
	if c, err := net.Dial("unix", alive); err != nil {
		t.Errorf("who was there is there no more: %v", err)
	} else {
		c.Close()
	}
}
