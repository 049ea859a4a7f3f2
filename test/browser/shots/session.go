package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/brooddaemon/brood/test/browser"
)

const (
	columns, rows = 110, 34
	upper         = 14                    // rows of the upper terminal
	keystroke     = 45 * time.Millisecond // for each key
	other         = "\x02o"               // tmux goes to the other terminal
)

// session records the walk of the README: a program under brood dev in the upper terminal, and in the lower one whoever uses and
// changes it.
func session(site *browser.Site, p *browser.Page, dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		return fmt.Errorf("the walk needs the address: %w", err)
	}
	l.Close()
	t, err := twoTerminals(site)
	if err != nil {
		return err
	}
	if err := walk(site, t); err != nil {
		return err
	}
	tape := pace(t.Tape())
	if err := writeCast(filepath.Join(dir, "session.cast"), tape); err != nil {
		return err
	}
	return writeGIF(filepath.Join(dir, "session.gif"), p, tape)
}

// twoTerminals opens one above the other in a copy of the module, of which a line will be changed.
func twoTerminals(site *browser.Site) (*browser.Terminal, error) {
	tree, run := filepath.Join(site.Dir, "tree"), filepath.Join(site.Dir, "run")
	for _, d := range []string{tree, run} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	// The build that is seen has to compile nothing but what has changed, as on the second day.
	prepare := exec.Command("sh", "-ec", `cp -R go.mod go.sum daemon reload netmon scoreboard internal examples "$0"
		cd "$0"
		go build -o /dev/null ./examples/jobs`, tree)
	prepare.Dir = root
	if out, err := prepare.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", prepare.Args, err, out)
	}
	socket := filepath.Join(site.Dir, "tmux")
	shell := []string{"bash", "--norc", "--noprofile"}
	cmd := exec.Command("tmux", slices.Concat([]string{"-S", socket, "-f", "/dev/null", "new-session"}, shell,
		[]string{";", "set", "status", "off", ";", "split-window", "-l", fmt.Sprint(rows - upper - 1)}, shell,
		[]string{";", "select-pane", "-t", "0"})...)
	cmd.Dir = tree
	foreign := func(v string) bool { return strings.HasPrefix(v, "BROOD_") || strings.HasPrefix(v, "TMUX") }
	cmd.Env = append(slices.DeleteFunc(os.Environ(), foreign),
		"PATH="+site.Dir+":"+os.Getenv("PATH"), "PS1=$ ", "HISTFILE=", "XDG_RUNTIME_DIR="+run, "TMPDIR="+site.Dir, "TZ=UTC",
		"BROOD_ENVIRON=*") // or the log would name all of which children get none
	if os.Geteuid() == 0 { // the README's reader is an ordinary user
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, Size: 1}},
		}
	}
	t, err := site.Terminal(cmd, columns, rows)
	if err != nil {
		return nil, err
	}
	site.AtEnd(func() { exec.Command("tmux", "-S", socket, "kill-server").Run() })
	_, err = t.Await(`(?s)\$.*─.*\$`)
	return t, err
}

// A move is something that is typed, what the screen shows then, and for how long one looks at it.
type move struct {
	keys  string
	shows string
	look  time.Duration
}

// walk does what the README says.
func walk(site *browser.Site, t *browser.Terminal) error {
	do := func(moves ...move) (found []string, err error) {
		for _, m := range moves {
			if err := t.Type(m.keys, keystroke); err != nil {
				return nil, err
			}
			if found, err = t.Await(m.shows); err != nil {
				return nil, err
			}
			time.Sleep(m.look)
		}
		return found, nil
	}
	if _, err := do(
		move{"brood dev ./examples/jobs\r", `msg=serving`, 2 * time.Second},
		move{other + "curl 'http://127.0.0.1:8080/'\r", `pid=\d+ slot=\d generation=1`, time.Second},
		move{"curl 'http://127.0.0.1:8080/job?seconds=30&kind=spin&id=a'\r", `id=a'\s`, time.Second},
	); err != nil {
		return err
	}
	if err := browser.Eventually(func() error {
		out, err := site.Command("brood", "status", filepath.Join(site.Dir, "run", "jobs")).Output()
		if err == nil && !bytes.Contains(out, []byte("working")) {
			err = fmt.Errorf("nobody works:\n%s", out)
		}
		return err
	}); err != nil {
		return err
	}
	found, err := do(
		move{"\x03", `client has left`, 2 * time.Second},
		move{"brood status jobs\r", `replaces (\d+): client`, 3 * time.Second},
	)
	if err != nil {
		return err
	}
	_, err = do(
		move{"brood why jobs " + found[1] + "\r", `Cause of its end`, 4 * time.Second},
		move{`sed -i 's/"pid=%d slot=%d/"process=%d slot=%d/' examples/jobs/main.go` + "\r", `rolled over`, 2 * time.Second},
		move{"curl 'http://127.0.0.1:8080/'\r", `process=\d+ slot=\d generation=2`, 2 * time.Second},
		move{other + "\x03", `(?m)msg=stopping[^─]*^\$`, 2 * time.Second},
	)
	return err
}
