package reload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child is the test binary as a program that watches itself. It talks to the test line by line.
func child(job string) {
	in := bufio.NewReader(os.Stdin)
	say := func(a ...any) { fmt.Println(a...) }
	switch job {
	case "program":
		say(Program())
	case "watch":
		say("started")
		in.ReadString('\n')
		s := Self()
		s.Settle, s.Poll = quick, -1
		w, err := Open(s)
		if err != nil {
			say("error", err)
			return
		}
		if err := os.Chdir("/"); err != nil {
			say("error", err)
			return
		}
		say("watching")
		for c := range w.Changes() {
			say(strings.Join(c.Paths, " "))
		}
	}
}

// install copies the test binary, with something at the end that makes it another build.
func install(t *testing.T, path, build string) {
	t.Helper()
	self, err := os.Executable()
	try(t, err)
	from, err := os.Open(self)
	try(t, err)
	defer from.Close()
	to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	try(t, err)
	_, err = io.Copy(to, from)
	try(t, err)
	_, err = to.WriteString(build)
	try(t, err)
	try(t, to.Close())
	try(t, os.Rename(path+".new", path))
}

// program starts a copy of the test binary.
type program struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
}

func start(t *testing.T, job, dir, path, argv0 string, env ...string) *program {
	t.Helper()
	var cmd *exec.Cmd
	var in io.WriteCloser
	var out io.Reader
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		cmd = &exec.Cmd{
			Path: path, Args: []string{argv0}, Dir: dir, Stderr: os.Stderr,
			Env: append(append(os.Environ(), "RELOAD_TEST_CHILD="+job, "PWD="+dir), env...),
		}
		var err error
		in, err = cmd.StdinPipe()
		try(t, err)
		out, err = cmd.StdoutPipe()
		try(t, err)
		if err = cmd.Start(); err == nil {
			break
		}
		// A process that a parallel test forked at the wrong moment holds the program open for writing until it
		// execs: golang.org/issue/22315.
		if !errors.Is(err, unix.ETXTBSY) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	p := &program{t, in, make(chan string, 16)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	return p
}

func (p *program) says(want string) {
	p.t.Helper()
	select {
	case got := <-p.lines:
		if got != want {
			p.t.Fatalf("program says %q, want %q", got, want)
		}
	case <-time.After(deadline):
		p.t.Fatalf("program says nothing, want %q", want)
	}
}

func (p *program) silent() {
	p.t.Helper()
	select {
	case got := <-p.lines:
		p.t.Fatalf("program says %q", got)
	case <-time.After(4 * quick):
	}
}

func (p *program) tell() { fmt.Fprintln(p.in) }

func TestProgram(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	try(t, err)
	mkdir(t, dir, "releases/1")
	app := filepath.Join(dir, "releases/1/app")
	install(t, app, "")
	try(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
	current := filepath.Join(dir, "current/app")
	write(t, filepath.Join(dir, "other"), "")

	tests := []struct {
		name, dir, argv0 string
		want             string
		env              []string
	}{
		{name: "absolute", dir: dir, argv0: app, want: app},
		{name: "absolute through a link", dir: "/", argv0: current, want: current},
		{name: "relative through a link", dir: dir, argv0: "current/app", want: current},
		{name: "relative in a directory entered through a link", dir: filepath.Join(dir, "current"), argv0: "./app", want: current},
		{name: "from PATH", dir: "/", argv0: "app", env: []string{"PATH=/none:" + dir + "/current"}, want: current},
		{name: "from a relative PATH", dir: dir, argv0: "app", env: []string{"PATH=current"}, want: current},
		{name: "argv[0] of a login shell", dir: dir, argv0: "-app", want: app},
		{name: "argv[0] names another file", dir: dir, argv0: "./other", want: app},
		{name: "argv[0] names nothing", dir: dir, argv0: "./none", want: app},
		{name: "no argv[0]", dir: dir, argv0: "", want: app},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start(t, "program", tt.dir, app, tt.argv0, tt.env...).says(tt.want + " <nil>")
		})
	}
}

// The running program is replaced after it did chdir("/"). B35
func TestSelf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := filepath.Join(dir, "app")
	install(t, app, "")
	p := start(t, "watch", dir, app, "./app")
	p.says("started")
	p.tell()
	p.says("watching")
	install(t, app, "") // the same bytes: B36
	p.silent()
	install(t, app, "two")
	p.says(app)
	p.silent()
}

// A deploy turns the link through which the running program was started. B31
func TestSelfThroughLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mkdir(t, dir, "releases/1")
	mkdir(t, dir, "releases/2")
	install(t, filepath.Join(dir, "releases/1/app"), "")
	install(t, filepath.Join(dir, "releases/2/app"), "two")
	try(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
	app := filepath.Join(dir, "current/app")
	p := start(t, "watch", dir, app, "current/app")
	p.says("started")
	p.tell()
	p.says("watching")
	run(t, dir, "ln", "-sfn", "releases/2", "current")
	p.says(app)
	p.silent()
	// The old release is not watched any longer, the new one is.
	install(t, filepath.Join(dir, "releases/1/app"), "one again")
	p.silent()
	install(t, filepath.Join(dir, "releases/2/app"), "three")
	p.says(app)
	p.silent()
}

// What counts is the program that runs: one that was replaced between its start and Open is reported.
func TestSelfReplacedBeforeOpen(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	try(t, err)
	app := filepath.Join(dir, "app")
	install(t, app, "")
	p := start(t, "watch", dir, app, "./app")
	p.says("started")
	install(t, app, "two")
	p.tell()
	p.says("watching")
	p.says(app)
	p.silent()
}
