package accept

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// BenchmarkStopped stops each of four children in turn, and has five clients come while it is: how many of the twenty have an
// answer within a third of a second.
func BenchmarkStopped(b *testing.B) {
	for b.Loop() {
		for _, mode := range modes {
			c := start(b, mode, 4)
			served := 0
			for _, pid := range children(c.parent) {
				for range rand.IntN(4) { // so that it is not always the same one who waits
					if err := ask(c.addr, "/"); err != nil {
						b.Fatal(err)
					}
				}
				syscall.Kill(pid, syscall.SIGSTOP)
				for !stopped(pid) {
					time.Sleep(time.Millisecond)
				}
				for range 5 {
					if askSoon(c.addr) {
						served++
					}
				}
				syscall.Kill(pid, syscall.SIGCONT)
				for ask(c.addr, "/") != nil {
				}
			}
			b.Logf("%-10s %2d of 20", mode, served)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// stopped reports whether a process does not run until it is told to go on.
func stopped(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.HasPrefix(text[bytes.LastIndexByte(text, ')')+1:], []byte(" T"))
}

// askSoon is ask for clients without patience.
func askSoon(addr string) bool {
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second / 3))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, err = io.ReadAll(conn)
	return err == nil
}
