package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A test that sets one of these variables has daemons that hardly wait: for the verdict about a job's client, so that it comes when the
// next job runs, for a proxy, or for a client who is to make a handshake.
func init() {
	for name, wait := range map[string]*time.Duration{
		"VERDICT_WAIT": &verdictWait, "HEADER_WAIT": &headerWait, "HANDSHAKE_WAIT": &handshakeWait,
	} {
		if d, err := time.ParseDuration(os.Getenv(name)); err == nil {
			*wait = d
		}
	}
}

// Blind takes from a child what its own eye looks with.
func Blind(c *Child) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	return unix.Dup3(int(null.Fd()), c.eye.fd, unix.O_CLOEXEC)
}

// Saw reports whether the child's eye has seen anything of a connection.
func Saw(conn *Conn) bool { return conn.seen.Load() }

// Told reports whether the parent has been told that the client of the job has left.
func Told(conn *Conn) bool {
	j := conn.running()
	conn.c.mu.Lock()
	defer conn.c.mu.Unlock()
	return j.reported
}

// A test that sets NAMES, such as "127.0.0.1=a.example.org", and NAMES_AFTER has daemons that find out the names of hosts from
// there, after that time. What is not named there is not known to anybody.
func init() {
	names, ok := os.LookupEnv("NAMES")
	if !ok {
		return
	}
	var r heardOf
	r.addr, r.name, _ = strings.Cut(names, "=")
	r.after, _ = time.ParseDuration(os.Getenv("NAMES_AFTER"))
	system = r
}

type heardOf struct {
	addr, name string
	after      time.Duration
}

func (r heardOf) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	select {
	case <-time.After(r.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if addr != r.addr {
		return nil, &net.DNSError{Name: addr, IsNotFound: true}
	}
	return []string{r.name + "."}, nil
}

func (r heardOf) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(r.addr)}, nil
}
