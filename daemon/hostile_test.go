package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// controlFD is where a child has its socket to the parent.
const controlFD = 3

// hostile is a daemon that runs lines, until a client sets a child against its parent.
var hostile = scenario("hostile", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			switch line {
			case "g\n":
				sendGarbage()
			case "e\n":
				unix.Write(controlFD, nil)
			case "b\n":
				soilBoard(c.Slot(), 0)
			case "p\n":
				soilBoard(c.Slot(), 128)
			}
			fmt.Fprintf(conn, "%d\n", os.Getpid())
		}
		return nil
	})
})

// sendGarbage says to the parent whatever a child may not say, and what it may say about jobs that there are not.
func sendGarbage() {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []byte("REGSDQVCF\x00\xff")
	for n := range 3000 {
		m := make([]byte, r.IntN(200))
		switch n % 4 {
		case 0:
			m = make([]byte, 64+r.IntN(64))
		case 1:
			m = make([]byte, []int{63, 64, 4160, 4161, 60000}[r.IntN(5)])
		}
		for i := range m {
			m[i] = byte(r.Uint32())
		}
		if len(m) >= 64 && n%2 == 0 {
			clear(m[:64])
			m[0], m[1] = kinds[r.IntN(len(kinds))], byte(r.Uint32())
			binary.LittleEndian.PutUint64(m[8:], r.Uint64()>>r.IntN(64)) // a job
			m[2] = byte(r.IntN(4))
		}
		if len(m) > 0 {
			unix.Write(controlFD, m)
		}
	}
}

// soilBoard fills a child's slot from an offset on.
func soilBoard(slot, from int) {
	f, err := os.OpenFile(sitePath("run/scoreboard"), os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	f.WriteAt(bytes.Repeat([]byte{0xff}, scoreboard.SlotSize-from), int64(scoreboard.HeaderSize+slot*scoreboard.SlotSize+from))
}

// Whatever a child says or writes on the board, its parent and the other children go on.
func TestHostileChild(t *testing.T) {
	for what, line := range map[string]string{
		"garbage":           "g",
		"empty message":     "e",
		"its whole slot":    "b",
		"its own part":      "p",
		"garbage and board": "gbeg",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := start(t, hostile, "POLICY=kill", "BROOD_KILL_GRACE=100ms")
			parent := s.board().PID
			for range 2 {
				for _, c := range line {
					conn := s.dial("tcp4")
					say(t, conn, string(c))
					io.ReadAll(conn)
				}
			}
			// The daemon still does all that it should: children die and are replaced, reload, serve and stop.
			before := s.board().Born
			for _, p := range s.processes() {
				if p.ppid != parent {
					continue
				}
				// Its parent may just have killed it for what it has said.
				if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
					t.Errorf("kill %d: %v", p.pid, err)
				}
			}
			s.await("new children", func(b *scoreboard.Snapshot) bool { return b.Born >= before+2 && b.State == "serving" })
			s.reload()
			for _, c := range s.serving() {
				if c.Generation != 2 || c.State != scoreboard.Idle {
					t.Errorf("child %+v", c)
				}
			}
			for range 4 {
				conn := s.dial("tcp4")
				say(t, conn, "x")
				if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
					t.Errorf("answered %q, %v", answer, err)
				}
			}
			if b := s.board(); b.PID != parent || b.Done > 1<<40 {
				t.Errorf("the scoreboard: %+v", b.Status)
			}
			s.stop(unix.SIGTERM)
			if log := s.log(); strings.Contains(log, "panic") {
				t.Error("something panicked")
			} else if strings.ContainsAny(log, "\x00\x1b") || !utf8.ValidString(log) {
				t.Error("raw bytes in the log")
			}
		})
	}
}
