package daemon_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
)

// lines is a daemon that runs a job for each connection: what the client's first line says, VERB ID. It answers with one
// line, at first or at last, see work.
var lines = scenario("lines", func() daemon.Config { return everywhere(lineLoop) })

// everywhere is a configuration with a listener of each kind and the policy that the environment names.
func everywhere(mainLoop func(context.Context, *daemon.Child) error) daemon.Config {
	cfg := daemon.Config{
		Listen:             []string{"127.0.0.1:0", "unix:" + sitePath("socket")},
		MainLoop:           mainLoop,
		OnClientDisconnect: policy,
		StopTimeout:        time.Second,
		Prefork:            2,
	}
	if os.Getenv("CONFIRM") != "" {
		cfg.ConfirmGone = confirm
	}
	if hasIPv6() {
		cfg.Listen = append(cfg.Listen, "[::1]:0")
	}
	return cfg
}

var hasIPv6 = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
})

// policy notes what it is told and does what the variable POLICY says.
func policy(d daemon.Disconnect) daemon.Action {
	record("lost", lost{d, d.How.String()})
	switch os.Getenv("POLICY") {
	case "kill":
		return daemon.Kill
	case "ignore":
		return daemon.Ignore
	case "panic":
		panic("policy gone mad")
	case "slow":
		awaitGate(context.Background(), "policy")
		return daemon.Kill
	}
	return daemon.Cancel
}

// lineLoop runs Concurrency loops of jobs. A loop that a job has ended, with a panic, Goexit or break, is begun anew.
func lineLoop(ctx context.Context, c *daemon.Child) error {
	var wg sync.WaitGroup
	for range c.Concurrency() {
		wg.Go(func() {
			for again := true; again; {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					defer func() { recover() }()
					for conn := range c.Conns(ctx) {
						if !work(c, conn) {
							return
						}
					}
					again = false
				}()
				<-ended
			}
		})
	}
	wg.Wait()
	return nil
}

// work runs one job. It returns false if the loop of connections is to be left.
func work(c *daemon.Child, conn *daemon.Conn) bool {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return true
	}
	ctx := conn.Context()
	verb, id, _ := strings.Cut(strings.TrimSpace(line), " ")
	id, arg, _ := strings.Cut(id, " ")
	answer := func(format string, args ...any) { fmt.Fprintf(conn, format+"\n", args...) }
	begin := func() { note(event{What: "begin", ID: id, Slot: c.Slot()}) }
	end := func() { note(event{What: "end", ID: id, Slot: c.Slot(), Text: ending(ctx)}) }
	switch verb {
	case "who":
		answer("%d %d", os.Getpid(), c.Slot())
	case "hold": // until cancelled
		if arg != "" {
			conn.Describe(arg)
		}
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		<-ctx.Done()
		end()
	case "late": // of a client who has left before he was missed
		conn.Await()
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		for !daemon.Saw(conn) {
			time.Sleep(time.Millisecond)
		}
		conn.Describe(arg)
		note(event{What: "told", ID: id, Text: fmt.Sprint(daemon.Told(conn))})
		<-ctx.Done()
		end()
	case "drip": // until cancelled, with a word now and then
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		for ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			answer("and")
		}
		end()
	case "gate": // until the test opens the gate
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		awaitGate(ctx, id)
		end()
		answer("bye")
	case "quiet": // the same, without an answer at its end
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		awaitGate(ctx, id)
		end()
	case "save": // until it is to end, of which it is told first; its word takes as long as ARG says
		daemon.JobOf(ctx).OnEvict(func(reason error, deadline time.Time) {
			note(event{What: "evicted", ID: id, Text: fmt.Sprintf("%v, %v left, context %v", reason, time.Until(deadline).Round(time.Second), ctx.Err())})
			if arg == "gate" {
				awaitGate(context.Background(), id)
			}
		})
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		<-ctx.Done()
		end()
	case "deaf": // for ever, with programs that it has started
		cmd := exec.Command("sh", "-c", "sleep 1000 & sleep 1000 & wait")
		cmd.Start()
		begin()
		answer("%d %d", os.Getpid(), c.Slot())
		cmd.Wait()
		select {}
	case "describe":
		conn.Describe(arg)
		begin()
		awaitGate(ctx, id)
	case "panic":
		begin()
		panic("job " + id)
	case "goexit":
		begin()
		runtime.Goexit()
	case "break":
		begin()
		return false
	case "close": // long before the job's end
		conn.Close()
		begin()
		awaitGate(ctx, id)
		end()
	case "shut": // the writing side alone
		conn.CloseWrite()
		begin()
		awaitGate(ctx, id)
		end()
	case "finish": // the work; the answer is to be fetched
		conn.Finish()
		begin()
		awaitGate(ctx, id)
		end()
	case "dial": // a connection of the job's own, whose other end leaves
		other, err := net.Dial("tcp", arg)
		if err != nil {
			answer("%v", err)
			return true
		}
		defer other.Close()
		begin()
		awaitGate(ctx, id)
		end()
	case "deadline":
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		answer("%v", errors.Is(err, os.ErrDeadlineExceeded))
	case "ends": // as the program sees them, and what TLS has agreed on
		version := ""
		if st := conn.TLS(); st != nil {
			version = tls.VersionName(st.Version) + st.NegotiatedProtocol
		}
		answer("%v %v %s", conn.RemoteAddr(), conn.LocalAddr(), version)
	case "info": // what the kernel and the proxy tell
		info, err := conn.TCPInfo()
		answer("%v %v %v %s %v", info.Local, info.Foreign, info.Proxy, info.State, err)
	case "copy": // what a program may do inside the kernel
		conn.ReadFrom(strings.NewReader(strings.Repeat(arg, 1000)))
	case "flags":
		answer("%s", descriptorOf(conn))
	case "options":
		answer("%s", optionsOf(conn))
	case "nap":
		d, _ := time.ParseDuration(id)
		time.Sleep(d)
		answer("%s %v", arg, ctx.Err() == nil)
	default:
		answer("what?")
	}
	return true
}

// descriptorOf says whether a connection's descriptor blocks, and what it is.
func descriptorOf(conn *daemon.Conn) (text string) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err.Error()
	}
	rc.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(fd), &st)
		}
		text = fmt.Sprintf("%v %d %v", flags&unix.O_NONBLOCK == 0, st.Ino, err)
	})
	return text
}

// optionsOf tells what the kernel does about the silence of a client.
func optionsOf(conn syscall.Conn) string {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err.Error()
	}
	var text []string
	rc.Control(func(fd uintptr) {
		for _, o := range [][2]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		} {
			v, err := unix.GetsockoptInt(int(fd), o[0], o[1])
			if err != nil {
				v = -1
			}
			text = append(text, fmt.Sprint(v))
		}
	})
	return strings.Join(text, " ")
}

// awaitGate waits until the test opens a gate or ctx ends.
func awaitGate(ctx context.Context, gate string) {
	for ctx.Err() == nil {
		if _, err := os.Stat(sitePath("gate-" + gate)); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// ending says why a job's context has ended.
func ending(ctx context.Context) string {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return "not cancelled"
	case errors.Is(cause, daemon.ErrClientGone):
		return "client gone"
	case errors.Is(cause, daemon.ErrStopping):
		return "stopping"
	default:
		return cause.Error()
	}
}

// pages is what the HTTP scenarios serve. jobContext finds the context of a request's job.
func pages(c *daemon.Child, jobContext func(*http.Request) context.Context) http.Handler {
	wait := func(r *http.Request) {
		ctx, id := jobContext(r), r.URL.Query().Get("id")
		note(event{What: "begin", ID: id, Slot: c.Slot()})
		if r.URL.Query().Get("gate") != "" {
			awaitGate(ctx, id)
		} else {
			<-ctx.Done()
		}
		note(event{What: "end", ID: id, Slot: c.Slot(), Text: ending(ctx)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %d", os.Getpid(), c.Slot())
	})
	// The body is not read. With write, something has been sent before the job waits.
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.URL.Query().Get("write") != "" {
			rc.EnableFullDuplex()
			fmt.Fprintln(w, os.Getpid())
			rc.Flush()
		}
		wait(r)
		fmt.Fprintln(w, "bye")
	})
	// For handlers that are older than a request's context.
	mux.HandleFunc("/notify", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		note(event{What: "begin", ID: id, Slot: c.Slot()})
		<-w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
		note(event{What: "end", ID: id, Slot: c.Slot()})
	})
	mux.HandleFunc("/nap", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("for"))
		time.Sleep(d)
		fmt.Fprintf(w, "%s %v\n", r.FormValue("word"), jobContext(r).Err() == nil)
	})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, r *http.Request) {
		conn, _, ok := takeOver(w)
		if !ok {
			return
		}
		defer conn.Close()
		if r.URL.Query().Get("write") != "" {
			fmt.Fprintln(conn, os.Getpid())
		}
		wait(r)
	})
	// Of a request whose body nobody has read: so far net/http has not read ahead.
	mux.HandleFunc("/byte", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, ok := takeOver(w)
		if !ok {
			return
		}
		defer conn.Close()
		rw.Reader.Discard(rw.Reader.Buffered())
		fmt.Fprintln(conn, "go on")
		var b [1]byte
		n, err := conn.Read(b[:])
		fmt.Fprintf(conn, "%q, %v\n", b[:n], err)
	})
	mux.HandleFunc("/options", func(w http.ResponseWriter, r *http.Request) {
		conn, _, ok := takeOver(w)
		if !ok {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, optionsOf(conn.(syscall.Conn)))
	})
	// The connection is taken over by somebody who goes on when the handler has returned.
	mux.HandleFunc("/detach", func(w http.ResponseWriter, r *http.Request) {
		conn, _, ok := takeOver(w)
		if !ok {
			return
		}
		id := r.URL.Query().Get("id")
		go func() {
			defer conn.Close()
			ctx := conn.(*daemon.Conn).Context()
			// Not before the handler has returned.
			<-r.Context().Done()
			note(event{What: "begin", ID: id, Slot: c.Slot()})
			<-ctx.Done()
			note(event{What: "end", ID: id, Slot: c.Slot(), Text: ending(ctx)})
		}()
	})
	return mux
}

// takeOver gives a handler its connection, or answers why it cannot.
func takeOver(w http.ResponseWriter) (conn net.Conn, rw *bufio.ReadWriter, ok bool) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	return conn, rw, err == nil
}

// say sends a line.
func say(t testing.TB, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// ask sends a line and returns the line that comes back.
func ask(t testing.TB, conn net.Conn, line string) string {
	t.Helper()
	say(t, conn, line)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

// askWho sends a line that is answered by PID SLOT.
func askWho(t testing.TB, conn net.Conn, line string) (pid, slot int) {
	t.Helper()
	answer := ask(t, conn, line)
	if _, err := fmt.Sscan(answer, &pid, &slot); err != nil {
		t.Fatalf("%s: answered %q", line, answer)
	}
	return pid, slot
}
