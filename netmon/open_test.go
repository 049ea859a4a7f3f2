package netmon

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	newDiag(t) // or else there is nothing to choose from
	src, choice := Open(DefaultFS)
	defer src.Close()
	if choice.Source != "inet_diag" || choice.Err != nil || choice.String() != "inet_diag" || src.Name() != "inet_diag" {
		t.Error(choice)
	}
	if _, err := src.Snapshot(nil, Filter{}); err != nil {
		t.Error(err)
	}
	if choice, news := src.Changed(); news || choice.Source != "inet_diag" {
		t.Error(choice, news)
	}
	// A table of another place cannot be had from this namespace's kernel.
	root, want := fakeTable(t, 3)
	src, choice = Open(FS(root))
	defer src.Close()
	if choice.Source != "procfs" || choice.Err == nil || !strings.Contains(choice.String(), string(root)) {
		t.Error(choice)
	}
	if rows, err := src.Snapshot(nil, Filter{}); err != nil || len(rows) != len(want) {
		t.Error(rows, err)
	}
	if choice, news := src.Changed(); news || choice.Source != "procfs" {
		t.Error(choice, news)
	}
}

// A refusal at any later time leads to /proc, which is told once. What may pass is put up
// with twice.
func TestOpenFallsBack(t *testing.T) {
	passing := []any{unix.ENOBUFS}
	fine := []any{message(unix.NLMSG_DONE, 0, 0, number32(0)...)}
	no := func(errno unix.Errno) []any {
		return []any{message(unix.NLMSG_ERROR, 0, 0, number32(-int32(errno))...)}
	}
	for _, tt := range []struct {
		name    string
		scripts [][]any
		looks   int // after which the choice is another
		errno   unix.Errno
	}{
		{"forbidden", [][]any{fine, fine, no(unix.EPERM)}, 3, unix.EPERM},
		{"not built", [][]any{no(unix.ENOENT)}, 1, unix.ENOENT},
		{"no such protocol", [][]any{no(unix.EPROTONOSUPPORT)}, 1, unix.EPROTONOSUPPORT},
		{"three in a row", [][]any{
			passing, passing, passing, passing, fine, // one failure
			passing, passing, passing, passing, passing, passing, passing, passing, passing, passing, passing, passing}, 5, unix.ENOBUFS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, want := fakeTable(t, 10)
			d, f := fakeDiag(tt.scripts...)
			a := &Auto{diag: d, table: NewTable(FS(root)), choice: Choice{Source: "inet_diag"}}
			for look := 1; ; look++ {
				asked := len(f.asked)
				rows, err := a.Snapshot(nil, Filter{})
				if err != nil || len(rows) != len(want) && len(f.scripts) == 0 {
					t.Fatal(look, len(rows), err)
				}
				choice, news := a.Changed()
				if news != (look == tt.looks) {
					t.Fatalf("look %d: %v, told: %v", look, choice, news)
				}
				if look < tt.looks {
					continue
				}
				if choice.Source != "procfs" || a.Name() != "procfs" || !errors.Is(choice.Err, tt.errno) {
					t.Fatal(choice)
				}
				if look > tt.looks && len(f.asked) != asked {
					t.Fatal("asked again")
				}
				if look == tt.looks+3 {
					break
				}
			}
			if a.Close() != nil || f.opened != f.closed {
				t.Errorf("%d sockets opened, %d closed", f.opened, f.closed)
			}
		})
	}
}

// TestWithoutNetlink runs this test again in a process that is not allowed to open
// netlink sockets, as below a strict seccomp filter: what can be done without is done.
func TestWithoutNetlink(t *testing.T) {
	if os.Getenv(roleVar) == "no netlink" {
		src, choice := Open(DefaultFS)
		if choice.Source != "procfs" || !errors.Is(choice.Err, unix.EPERM) {
			t.Fatal(choice)
		}
		if err := NewUnix().Probe(); !errors.Is(err, unix.EPERM) {
			t.Error(err)
		}
		s := newScene(t, newChild(t), ":0", "127.0.0.1", src)
		c, cut := s.connect(), s.connect()
		s.nothing()
		c.Close()
		s.reported(Closed, c)
		reset(t, cut)
		s.reported(Reset, cut)
		return
	}
	without(t, "no netlink")
}

// without runs a test again in a process that is denied something.
func without(t *testing.T, role string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == noSeccomp {
		t.Skipf("no seccomp: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// noSeccomp is the exit status of a process that could not forbid itself anything.
const noSeccomp = 77

// denials are what a process can forbid itself, by role.
var denials = map[string]func() error{
	"no netlink": func() error {
		return forbid(
			loadCall(callNumber), unless(unix.SYS_SOCKET, 3),
			loadCall(callArgument), unless(unix.AF_NETLINK, 1),
			answerCall(unix.SECCOMP_RET_ERRNO|uint32(syscall.EPERM)),
			answerCall(unix.SECCOMP_RET_ALLOW))
	},
	"no pidfd_getfd": func() error {
		return forbid(
			loadCall(callNumber), unless(unix.SYS_PIDFD_GETFD, 1),
			answerCall(unix.SECCOMP_RET_ERRNO|uint32(syscall.EPERM)),
			answerCall(unix.SECCOMP_RET_ALLOW))
	},
}

// Offsets in struct seccomp_data: the call's number, and its first argument.
const callNumber, callArgument = 0, 16

func loadCall(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func unless(k uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: k}
}

func answerCall(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

// forbid has the kernel ask this program before each system call of this process and its children.
func forbid(program ...unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if errno != 0 {
		return errno
	}
	return nil
}
