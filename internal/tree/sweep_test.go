package tree

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// B16: nothing is left of a child that sweeps before it exits, even if its jobs start program after program.
func TestSweep(t *testing.T) {
	tok := newToken(t)
	c := tok.role(t, "sweep", []string{family})
	c.says(t, "ready")
	until(t, "all run", func() bool { return tok.named(t, "sleep") == sleepers+2*restarters })
	fmt.Fprintln(c.stdin, "go")
	c.succeeds(t)
	tok.wantNone(t)
}

// restarters is how many jobs start their program again whenever it has ended.
const restarters = 4

func sweepRole(args []string) error {
	if err := Subreaper(); err != nil {
		return err
	}
	if err := exec.Command("sh", "-c", args[0]).Start(); err != nil {
		return err
	}
	for range restarters {
		go func() {
			for {
				exec.Command("sh", "-c", "setsid sleep 1000 & sleep 1000; :").Run()
			}
		}()
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := Sweep(); err != nil {
		return err
	}
	// What there is now can only have ended or be about to.
	children, err := childrenOf(theProc, tableOf(theProc), os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range children {
		if err := poll(func() bool { s, err := theProc.stat(pid); return err != nil || s.ended() }); err != nil {
			return fmt.Errorf("process %d lives: %w", pid, err)
		}
	}
	fmt.Println("ok")
	return nil
}
