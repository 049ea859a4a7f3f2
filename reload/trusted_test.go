package reload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A yard is a directory that its user alone can change, with a program in it.
type yard struct {
	t   *testing.T
	dir string
	app string
	us  uint32
}

func newYard(t *testing.T) yard {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	try(t, err)
	app := writeMode(t, filepath.Join(mkdir(t, dir, "a/b"), "app"), "#!/bin/sh\n", 0o755)
	for _, path := range []string{"", "a", "a/b", "a/b/app"} { // whatever the umask is
		try(t, os.Chmod(filepath.Join(dir, path), 0o755))
	}
	y := yard{t, dir, app, uint32(os.Geteuid())}
	if err := y.trusted(app); err != nil {
		t.Skip("nothing in the temporary directory is to be trusted: ", err)
	}
	return y
}

func (y yard) path(elem ...string) string { return filepath.Join(append([]string{y.dir}, elem...)...) }

// trusted opens what path leads to and asks for it.
func (y yard) trusted(path string, owners ...uint32) error {
	y.t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(y.t, err)
	defer unix.Close(fd)
	return Trusted(path, fd, append(owners, y.us)...)
}

// refuses checks that the error names the component and says what to do.
func (y yard) refuses(path, component, why string) {
	y.t.Helper()
	err := y.trusted(path)
	if err == nil || errors.Is(err, ErrMoving) || !strings.Contains(err.Error(), component+" "+why) {
		y.t.Errorf("got %v, want that %s %s", err, component, why)
	}
}

const writable, foreign = "may be written by others", "belongs to user"

// One link in the chain that others can write makes the program theirs.
func TestTrustedModes(t *testing.T) {
	t.Parallel()
	for _, component := range []string{"", "a", "a/b", "a/b/app"} {
		for _, mode := range []os.FileMode{0o775, 0o757, 0o777, 0o775 | os.ModeSetgid} {
			t.Run(fmt.Sprintf("%s %o", component, mode), func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				full := y.path(component)
				try(t, os.Chmod(full, mode))
				y.refuses(y.app, full, writable)
				err := y.trusted(y.app)
				if !strings.Contains(err.Error(), fmt.Sprintf("mode %04o", unixMode(t, full))) || !strings.Contains(err.Error(), "chmod go-w") {
					t.Errorf("it says %v", err)
				}
				try(t, os.Chmod(full, 0o755))
				if err := y.trusted(y.app); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func unixMode(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	try(t, unix.Stat(path, &st))
	return st.Mode & 0o7777
}

// What lies in a sticky directory others cannot touch, although they can write the directory.
func TestTrustedSticky(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	try(t, os.Chmod(y.path("a"), 0o777|os.ModeSticky))
	if err := y.trusted(y.app); err != nil {
		t.Error(err)
	}
	// A file is not protected by it.
	try(t, os.Chmod(y.app, 0o777|os.ModeSticky))
	y.refuses(y.app, y.app, writable)
	if y.us != 0 {
		return
	}
	// Whoever owns the directory, or what lies in it, can.
	try(t, os.Chmod(y.app, 0o755))
	try(t, os.Chown(y.path("a/b"), 65534, 65534))
	y.refuses(y.app, y.path("a/b"), foreign)
	try(t, os.Chown(y.path("a/b"), 0, 0))
	try(t, os.Chown(y.path("a"), 65534, 65534))
	y.refuses(y.app, y.path("a"), foreign)
}

// The directories on the way of a link count, those that the path does not name, too.
func TestTrustedLinks(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"relative": "releases/1", "absolute": "DIR/releases/1", "with dots": "./releases/../releases//1/",
		"through another": "latest/1", "out and in again": "../../../../../../../../../../DIR/releases/1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			app := writeMode(t, filepath.Join(mkdir(t, y.dir, "releases/1"), "app"), "#!/bin/sh\n", 0o755)
			try(t, os.Symlink("releases", y.path("latest")))
			try(t, os.Symlink(strings.ReplaceAll(text, "DIR", y.dir), y.path("current")))
			through := y.path("current/app")
			if err := y.trusted(through); err != nil {
				t.Fatal(err)
			}
			for _, component := range []string{app, y.path("releases/1"), y.path("releases")} {
				try(t, os.Chmod(component, 0o775))
				y.refuses(through, component, writable)
				try(t, os.Chmod(component, 0o755))
			}
			if y.us != 0 {
				return
			}
			// The link itself is its owner's.
			try(t, os.Lchown(y.path("current"), 65534, 65534))
			y.refuses(through, y.path("current"), foreign)
			if err := y.trusted(through, 65534); err != nil {
				t.Error(err)
			}
		})
	}
}

// A trusted owner may own any of it, but then, too, nobody else may write it.
func TestTrustedOwner(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	if y.us != 0 {
		t.Skip("only root can give files away")
	}
	for _, component := range []string{"", "a", "a/b", "a/b/app"} {
		full := y.path(component)
		try(t, os.Chown(full, 65534, 65534))
		y.refuses(y.app, full, foreign+" 65534")
		if err := y.trusted(y.app, 65533); err == nil {
			t.Errorf("%s of user 65534 is trusted though the owner is user 65533", full)
		}
		if err := y.trusted(y.app, 65533, 65534); err != nil {
			t.Error(err)
		}
		try(t, os.Chmod(full, 0o775))
		if err := y.trusted(y.app, 65534); err == nil {
			t.Errorf("%s is trusted though the owner's group may write it", full)
		}
		try(t, os.Chmod(full, 0o755))
		try(t, os.Chown(full, 0, 0))
	}
}

// What was opened is judged, not what lies there by now.
func TestTrustedReplaced(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	fd, err := unix.Open(y.app, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(t, err)
	defer unix.Close(fd)
	replace(t, y.app, "#!/bin/sh\n")
	if err := Trusted(y.app, fd, y.us); !errors.Is(err, ErrMoving) {
		t.Errorf("replaced: %v", err)
	}
	try(t, os.Remove(y.app))
	if err := Trusted(y.app, fd, y.us); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
}

func TestTrustedErrors(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	try(t, os.Symlink("loop", y.path("loop")))
	fd, err := unix.Open(y.app, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(t, err)
	defer unix.Close(fd)
	for path, want := range map[string]string{
		"a/b/app": "absolute", "": "absolute", y.path("loop/x"): "too many levels", y.app + "/x": "not a directory", y.path("none/x"): y.path("none"),
	} {
		if err := Trusted(path, fd, y.us); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", path, err, want)
		}
	}
	if err := Trusted(y.app, -1, y.us); err == nil {
		t.Error("no descriptor is trusted")
	}
	before, _ := os.ReadDir("/proc/self/fd")
	for range 1000 {
		Trusted(y.app, fd, y.us)
		Trusted(y.path("loop"), fd, y.us)
		Trusted(y.path("none/x"), fd, y.us)
	}
	// Tests beside this one open some, too, but not as many.
	if after, _ := os.ReadDir("/proc/self/fd"); len(after) > len(before)+500 {
		t.Errorf("%d descriptors before, %d after", len(before), len(after))
	}
}
