package tree

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// B16: what a dead child has left is known by its mark, and only that is ended.
func TestStrays(t *testing.T) {
	tok := newToken(t)
	tok.role(t, "strays", []string{t.TempDir()}).succeeds(t)
}

// stay is a program that notes its number in a file and stays.
const stay = `echo $$ >$1.new; mv $1.new $1; exec sleep 1000`

func straysRole(args []string) error {
	const mark = "TREE_TEST_MARK=1"
	dir := args[0]
	if err := errors.Join(Subreaper(), os.Chdir(dir), os.WriteFile("stay", []byte(stay), 0o600)); err != nil {
		return err
	}
	command := func(script string, env ...string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
	own := command("exec sh stay own", mark)
	err := errors.Join(
		own.Start(),
		command("setsid sh stay marked &", mark).Run(),
		command("setsid sh -c 'env -u TREE_TEST_MARK setsid sh stay below & sh stay above; :' &", mark).Run(),
		command("setsid sh stay plain &").Run(),
		command("setsid sh stay almost &", mark+"2").Run(),
		command("setsid sh stay inside &", "A="+mark).Run(),
	)
	if err != nil {
		return err
	}
	lost, kept := []string{"marked", "below", "above"}, []string{"plain", "almost", "inside", "own"}
	pids := make(map[string]int)
	for _, name := range append(lost, kept...) {
		err := poll(func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, name))
			pids[name], _ = strconv.Atoi(strings.TrimSpace(string(b)))
			// It has noted its number and is on its way to be what it stays.
			comm, _ := os.ReadFile(theProc.dir(pids[name]) + "/comm")
			return strings.TrimSpace(string(comm)) == "sleep"
		})
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	if err := Strays(mark); err != nil {
		return err
	}
	for _, name := range lost {
		if err := poll(func() bool { s, err := theProc.stat(pids[name]); return err != nil || s.ended() }); err != nil {
			return fmt.Errorf("%s lives: %w", name, err)
		}
	}
	for _, name := range kept {
		if s, err := theProc.stat(pids[name]); err != nil || halted(s) {
			return fmt.Errorf("%s is in state %q (%v)", name, s.state, err)
		}
	}
	own.Process.Signal(syscall.SIGTERM)
	if err := own.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		return fmt.Errorf("own child: %v, want that it was terminated", err)
	}
	fmt.Println("ok")
	return nil
}
