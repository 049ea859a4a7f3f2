package daemon

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A pipeOf is the pipe of an access log, of which the test is the parent.
type pipeOf struct {
	t  *testing.T
	fd int
}

func (p *pipeOf) open() *accessPipe {
	p.t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		p.t.Fatal(err)
	}
	p.fd = fds[0]
	f := os.NewFile(uintptr(fds[1]), "access log")
	p.t.Cleanup(func() {
		unix.Close(p.fd)
		f.Close()
	})
	return &accessPipe{f: f}
}

// read returns what is in the pipe.
func (p *pipeOf) read() string {
	var all []byte
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(p.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}
