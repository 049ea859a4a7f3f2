package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What a parent gives to a generation comes as it was, as often as somebody reads it, and nobody can change it.
func TestPapers(t *testing.T) {
	given := papers{Listen: []listening{
		{"web", listenSpec{Addresses: []address{{"tcp", "127.0.0.1:80"}, {"unix", "/run/x"}}, Name: "web"}}, {},
	}}
	fd, err := given.seal()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 {
		got, err := readPapers(fd)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(given, got); d != "" {
			t.Error(d)
		}
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err == nil {
		t.Error("it can be written to")
	}
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("it can be cut short")
	}
}

// A descriptor that somebody else has opened is not read: a stray variable in an environment leads to it.
func TestPapersOfStrangers(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString(`{"listen":[{"name":"127.0.0.1:80"}]}`)
	fd, err := unix.MemfdCreate("open", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, fd := range []int{int(f.Fd()), fd, 12345} {
		if _, err := readPapers(fd); err == nil || !strings.Contains(err.Error(), "unset the environment variable BROOD") {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
}
