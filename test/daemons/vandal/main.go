// Vandal is a daemon whose children do to the scoreboard what a child can. Each connection is a job and says what, in lines:
//
//	cut N    makes the file N bytes long
//	behead   fills the header with 0xff
//	count N  writes into the header that there are N slots
//	fill     fills its own slot with 0xff, the parent's part, too, and goes on for a second
//	pass     does nothing
//
// The answer is ok, or what was wrong.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

// boardFD is a copy of the descriptor with which a child is born. The toolkit closes it before it calls anything of the program's,
// so this is taken before main.
var boardFD = func() int {
	const inherited = 4
	if !strings.HasPrefix(os.Getenv("BROOD"), "child:") {
		return -1
	}
	fd, err := unix.FcntlInt(inherited, unix.F_DUPFD, 100)
	if err != nil {
		panic(err)
	}
	return fd
}()

func main() {
	cfg := daemon.Config{Name: "vandal", Listen: []string{"127.0.0.1:0"}, HalfClose: daemon.HalfCloseIgnore}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	var board int
	var child *daemon.Child
	cfg.ChildInit = func(c *daemon.Child) (err error) {
		// Beyond what the toolkit has made close-on-exec or looks at.
		board, err = unix.FcntlInt(uintptr(boardFD), unix.F_DUPFD_CLOEXEC, 200)
		child = c
		return err
	}
	cfg.MainLoop = serve.Conns(func(_ context.Context, conn net.Conn) {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if err := obey(lines.Text(), board, child.Slot()); err != nil {
				fmt.Fprintln(conn, err)
				continue
			}
			fmt.Fprintln(conn, "ok", os.Getpid())
		}
	})
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "vandal:", err)
		os.Exit(1)
	}
}

func obey(line string, board, slot int) error {
	var n int64
	if _, err := fmt.Sscanf(line, "cut %d", &n); err == nil {
		return unix.Ftruncate(board, n)
	}
	if _, err := fmt.Sscanf(line, "count %d", &n); err == nil {
		const slots = 20
		_, err := unix.Pwrite(board, binary.LittleEndian.AppendUint32(nil, uint32(n)), slots)
		return err
	}
	switch {
	case line == "behead":
		_, err := unix.Pwrite(board, bytes.Repeat([]byte{0xff}, 4096), 0)
		return err
	case line == "fill":
		const header, size = 4096, 512
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			if _, err := unix.Pwrite(board, bytes.Repeat([]byte{0xff}, size), header+int64(slot)*size); err != nil {
				return err
			}
		}
		return nil
	case line == "pass":
		return nil
	}
	return fmt.Errorf("do what? %q", line)
}
