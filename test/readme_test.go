package test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A step is a command of the README and what it shows of it.
type step struct {
	line        int
	command     string // empty: something is done in the terminal in which a command has stayed
	interrupted bool   // the reader presses Ctrl-C
	output      []string
}

// readmeSteps returns the commands of the README's console blocks, in order.
func readmeSteps(t *testing.T, readme []byte) []step {
	var steps []step
	inside, first := false, false
	for i, line := range strings.Split(string(readme), "\n") {
		switch {
		case line == "```console":
			inside, first = true, true
			continue
		case line == "```":
			inside = false
		case inside && strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, command: line[2:]})
		case inside && first && line == "^C":
			steps = append(steps, step{line: i + 1, interrupted: true})
		case inside && first:
			t.Fatalf("README.md:%d: output without a command", i+1)
		case inside && line == "^C":
			steps[len(steps)-1].interrupted = true
		case inside:
			steps[len(steps)-1].output = append(steps[len(steps)-1].output, line)
		}
		first = false
	}
	return steps
}

// TestREADME does what the README says, in order, in a copy of the tree, and looks whether the first word of each line
// that it shows is in what the command really prints.
func TestREADME(t *testing.T) {
	leaveToPlain(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl, as the README says")
	}
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Skip("needs 127.0.0.1:8080, which is in use: ", err)
	}
	l.Close()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := readmeSteps(t, readme)
	if len(steps) < 10 {
		t.Fatalf("only %d commands found in the README", len(steps))
	}
	dir := copyTree(t)
	t.Cleanup(func() {
		// Whatever went wrong: nothing is left running.
		exec.Command("go", "-C", dir, "run", "./cmd/brood", "stop", "--quick", "jobs").Run()
	})
	var stays terminal
	for _, s := range steps {
		t.Logf("README.md:%d: $ %s", s.line, s.command)
		out := s.run(t, dir, &stays)
		for _, want := range s.output {
			if word := firstWord(want); word != "" && !strings.Contains(out, word) {
				t.Errorf("README.md:%d: %q shows %q, got:\n%s", s.line, s.command, word, out)
			}
		}
	}
}

// firstWord is the part of a line of output that does not depend on the day: up to the first space, sign of equality or
// ellipsis. A number says nothing.
func firstWord(line string) string {
	word := line
	if i := strings.IndexAny(line, " =…"); i >= 0 {
		word = line[:i]
	}
	if strings.Trim(word, "0123456789") == "" {
		return ""
	}
	return word
}

// A terminal is where a command stays until Ctrl-C.
type terminal struct {
	out  *output
	stop func()
}

func (s step) run(t *testing.T, dir string, stays *terminal) string {
	if s.command == "" {
		stays.stop()
		return stays.out.String()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel) // not before: one that stays in its terminal would be killed
	cmd := exec.CommandContext(ctx, "bash", "-c", s.command)
	cmd.Dir = dir
	if os.Geteuid() == 0 {
		cmd.Env = append(os.Environ(), "BROOD_AUTO_RELOAD_WHEN=always") // which the README tells root to say
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	switch {
	case s.command == "go run ./cmd/brood dev ./examples/jobs":
		out.await(t, "msg=serving")
		*stays = terminal{&out, sync.OnceFunc(func() {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
			<-exited // go run exits with 1 when it is interrupted, whatever its program does
		})}
		t.Cleanup(stays.stop)
		return out.String()
	case s.interrupted:
		waitBusy(t)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		<-exited
		return out.String()
	}
	if err := <-exited; err != nil {
		t.Fatalf("README.md:%d: %s: %v\n%s", s.line, s.command, err, out.String())
	}
	return out.String()
}

// waitBusy waits until a child of the daemon works.
func waitBusy(t *testing.T) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, _ := exec.Command("brood", "status", "jobs").CombinedOutput()
		if bytes.Contains(out, []byte("working")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no child works:\n%s", out)
		}
	}
}

// copyTree copies the module, because the README changes a line of it.
func copyTree(t *testing.T) string {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "daemon", "reload", "netmon", "scoreboard", "internal", "cmd", "examples"} {
		src := filepath.Join(root, name)
		if st, err := os.Stat(src); err != nil {
			t.Fatal(err)
		} else if st.IsDir() {
			err = os.CopyFS(filepath.Join(dir, name), os.DirFS(src))
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := os.ReadFile(src)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// An output collects what a command prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(t *testing.T, text string) {
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(o.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in:\n%s", text, o.String())
		}
	}
}
