// Package browser looks at brood web as people do: in a browser, Chromium, without a window. It runs the real programs, and
// knows of them what an operator knows. For the pictures it looks at what they show on a terminal, too.
//
//	go test ./...                      # in this directory
//	go run ./shots ../../docs/img      # takes the pictures in docs/img
//
// It is a module of its own, so that what drives the browser does not become a dependency of the toolkit. Without Chromium
// (apt-get install chromium) the test says so and is skipped.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Patience is how long is waited for what must happen.
const Patience = 20 * time.Second

// A Site is a directory with the programs, and what has been started of them.
type Site struct {
	Dir   string
	ends  []func()
	count int
}

// OpenSite builds the programs, from the module at root.
func OpenSite(root string) (*Site, error) {
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		return nil, err
	}
	s := &Site{Dir: dir}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/brood", "./examples/jobs", "./test/daemons/hostile")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Close()
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return s, nil
}

// Close ends all that has been started.
func (s *Site) Close() {
	for len(s.ends) > 0 {
		last := len(s.ends) - 1
		s.ends[last]()
		s.ends = s.ends[:last]
	}
	os.RemoveAll(s.Dir)
}

// AtEnd has something done before all that has been started until now ends.
func (s *Site) AtEnd(f func()) { s.ends = append(s.ends, f) }

// Command prepares one of the programs.
func (s *Site) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.Dir, program), args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/no-home", "TMPDIR=" + s.Dir, "TZ=UTC", "BROOD_POOL=static"}
	return cmd
}

// A Daemon runs.
type Daemon struct {
	Run  string // its run directory
	Addr string // where it listens
	PID  int    // of its parent
	cmd  *exec.Cmd
	site *Site
}

// Serve starts a daemon and waits until it serves.
func (s *Site) Serve(program string, flags ...string) (*Daemon, error) {
	s.count++
	d := &Daemon{Run: filepath.Join(s.Dir, fmt.Sprintf("%s.%d", program, s.count)), site: s}
	d.cmd = s.Command(program, append([]string{"-listen", "127.0.0.1:0", "-run-dir", d.Run, "-error-log", d.Run + ".log"}, flags...)...)
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	d.PID = d.cmd.Process.Pid
	s.ends = append(s.ends, d.End)
	return d, Eventually(func() error {
		out, err := s.Command("brood", "status", "--json", d.Run).Output()
		if err != nil {
			return fmt.Errorf("brood status: %w", err)
		}
		var st struct {
			Listen string
			Status struct{ State string }
		}
		if err := json.Unmarshal(out, &st); err != nil {
			return err
		}
		d.Addr = st.Listen
		if st.Status.State != "serving" {
			return fmt.Errorf("%s is %s", program, st.Status.State)
		}
		return nil
	})
}

// End ends the daemon at once.
func (d *Daemon) End() {
	if d.cmd.ProcessState != nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGINT)
	d.cmd.Process.Signal(syscall.SIGCONT)
	kill := time.AfterFunc(Patience, func() { d.cmd.Process.Kill() })
	d.cmd.Wait()
	kill.Stop()
}

// Ask asks for something and does not wait for the answer. The client leaves when leave is called.
func (d *Daemon) Ask(path string) (leave func(), err error) {
	conn, err := net.Dial("tcp", d.Addr)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: daemon\r\n\r\n", path)
	d.site.ends = append(d.site.ends, func() { conn.Close() })
	return func() { conn.Close() }, err
}

// A Web is brood web.
type Web struct {
	URL string
	cmd *exec.Cmd
}

// Web shows daemons, each given as LABEL=DIR, at an address.
func (s *Site) Web(listen string, daemons ...string) (*Web, error) {
	w := &Web{cmd: s.Command("brood", append([]string{"web", "--listen", listen}, daemons...)...)}
	out, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	s.ends = append(s.ends, func() { w.End() })
	line, err := bufio.NewReader(out).ReadString('\n')
	w.URL = strings.TrimSpace(line)
	return w, err
}

// End ends it in order, and returns how it ended.
func (w *Web) End() error {
	if w.cmd.ProcessState != nil {
		return nil
	}
	w.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(Patience, func() { w.cmd.Process.Kill() })
	defer kill.Stop()
	return w.cmd.Wait()
}

// Load asks for short jobs until ctx ends.
func (d *Daemon) Load(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			go func() {
				if resp, err := client.Get("http://" + d.Addr + "/"); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
		}
	}
}

// Eventually tries again until there is no error, or patience has an end.
func Eventually(f func() error) error {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil || time.Since(begun) > Patience {
			return err
		}
	}
}

// ErrNoBrowser says that there is no Chromium.
var ErrNoBrowser = errors.New("there is no chromium: apt-get install chromium")
