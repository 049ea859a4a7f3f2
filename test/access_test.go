package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An accessSite is a daemon of jobs whose access log is looked at.
type accessSite struct {
	t      *testing.T
	d      *server
	path   string
	format string
}

func openAccess(t *testing.T, format string, flags ...string) *accessSite {
	t.Helper()
	s := openSite(t)
	a := &accessSite{t: t, path: filepath.Join(s.dir, "access.log"), format: format}
	var err error
	if a.d, err = s.serve(nil, "jobs", append(flags, "-access-log", a.path, "-access-format", format)...); err != nil {
		t.Fatal(err)
	}
	return a
}

// ask asks for a job of half a minute.
func (a *accessSite) ask(kind, id string) *visit {
	a.t.Helper()
	v, err := ask(fmt.Sprintf("%s/job?seconds=30&kind=%s&id=%s", a.d.addr, kind, id))
	if err != nil {
		a.t.Fatal(err)
	}
	a.d.site.undo = append(a.d.site.undo, func() { v.conn.Close() })
	return v
}

// begin asks for a job and returns when a child works on it.
func (a *accessSite) begin(kind, id string) (*visit, int) {
	a.t.Helper()
	v := a.ask(kind, id)
	pid, err := a.d.pick("client="+v.conn.LocalAddr().String(), "text=GET /job", "busy=true")
	if err != nil {
		a.t.Fatal(err)
	}
	return v, pid
}

// one waits until a job has a line, which must say how it ended.
func (a *accessSite) one(id, end string, status int) {
	a.t.Helper()
	if err := eventually(patience, func() error {
		all, err := accessLines(a.path, a.format)
		if err != nil {
			return err
		}
		if len(all[id]) != 1 {
			return fmt.Errorf("%d lines of job %s in %v", len(all[id]), id, all)
		}
		switch l := all[id][0]; {
		case a.format != "common" && l.End != end:
			return failure{fmt.Errorf("job %s: %+v, want it to have ended as %q", id, l, end)}
		case l.Status != status:
			return failure{fmt.Errorf("job %s: %+v, want status %d", id, l, status)}
		case !strings.HasPrefix(l.Client, "127.0.0.1") || time.Since(l.Time).Abs() > time.Minute:
			return failure{fmt.Errorf("job %s: %+v", id, l)}
		case a.format != "common" && (l.PID == 0 || l.Job == 0 || l.US <= 0 || (l.Exit == "") != (end != "died" && !strings.HasPrefix(end, "killed"))):
			return failure{fmt.Errorf("job %s: %+v", id, l)}
		}
		return nil
	}); err != nil {
		a.t.Error(err)
	}
}

// Jobs of all endings: each has one line, in the format that was asked for, with the way in which it ended.
func TestAccessEndings(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"combined", "common", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			a := openAccess(t, format, "-prefork", "2", "-kill-grace", "300ms", "-drain-timeout", "200ms", "-soak", "0s")
			for path, status := range map[string]int{"/job?seconds=0&kind=sleep&id=a": 200, "/job?id=b": 400, "/no?id=c": 404} {
				v, err := ask(a.d.addr + path)
				if err != nil {
					t.Fatal(err)
				}
				v.answer()
				v.conn.Close()
				a.one(path[len(path)-1:], "done", status)
			}
			v, _ := a.begin("sleep", "obeys")
			v.conn.Close()
			a.one("obeys", "cancelled: client gone", 503)
			v, _ = a.begin("spin", "spins")
			v.conn.Close()
			a.one("spins", "killed: client gone", 499)
			_, pid := a.begin("spin", "dies")
			if err := kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			a.one("dies", "died", 0)
			a.begin("sleep", "leaves")
			a.begin("spin", "stays")
			if out, err := a.d.site.command("brood", "reload", a.d.run).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			a.one("leaves", "evicted", 503)
			if format != "common" {
				all, err := accessLines(a.path, format)
				if len(all["stays"]) > 0 && all["stays"][0].Exit == "" {
					t.Errorf("%+v, %v", all["stays"], err)
				}
			}
			if err := eventually(patience, func() error {
				all, err := accessLines(a.path, format)
				if err == nil && len(all["stays"]) != 1 || format != "common" && len(all["stays"]) == 1 && all["stays"][0].End != "evicted" {
					err = fmt.Errorf("%+v", all["stays"])
				}
				return err
			}); err != nil {
				t.Error(err)
			}
			if all, err := accessLines(a.path, format); err != nil || len(all) != 8 {
				t.Errorf("%v: %d jobs, want 8: %v", err, len(all), all)
			}

			b := openAccess(t, format, "-prefork", "2", "-kill-grace", "300ms", "-job-timeout", "200ms")
			b.ask("sleep", "late")
			b.one("late", "cancelled: timeout", 503)
			b.ask("spin", "later")
			b.one("later", "killed: timeout", 0)
		})
	}
}

// A handler that answers nothing when its context ends: who has left was not answered, whoever of the two has seen that first; who is
// still there was, by net/http, and the line says what he got.
func TestAccessUnanswered(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for _, concurrency := range []string{"1", "4"} {
		t.Run(concurrency, func(t *testing.T) {
			t.Parallel()
			s := openSite(t)
			a := &accessSite{t: t, path: filepath.Join(s.dir, "access.log"), format: "combined"}
			var err error
			a.d, err = s.serve(nil, "broken", "-gone", "cancel", "-prefork", "2", "-concurrency", concurrency, "-job-timeout", "2s", "-access-log", a.path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				v, err := ask(fmt.Sprintf("%s/sleep?for=30s&id=left%d", a.d.addr, i))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := a.d.pick("client="+v.conn.LocalAddr().String(), "text=GET /sleep", "busy=true"); err != nil {
					t.Fatal(err)
				}
				v.conn.Close()
				a.one(fmt.Sprint("left", i), "cancelled: client gone", 499)
			}
			var late []*visit
			for i := range 10 {
				v, err := ask(fmt.Sprintf("%s/sleep?for=30s&id=late%d", a.d.addr, i))
				if err != nil {
					t.Fatal(err)
				}
				defer v.conn.Close()
				late = append(late, v)
			}
			for i, v := range late {
				if answer, err := v.answer(); err != nil || answer != "" {
					t.Errorf("who is late gets %q, %v", answer, err)
				}
				a.one(fmt.Sprint("late", i), "cancelled: timeout", 200)
			}
		})
	}
}

// Jobs of all kinds, many of them at once in each child, whose clients leave or not and whose children are killed; and the parent is
// replaced in the meantime. Every job that has begun has one line, and no job has two.
func TestAccessOnce(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	beats, path := filepath.Join(s.dir, "beats"), filepath.Join(s.dir, "access.log")
	if err := os.Mkdir(beats, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := s.serve(nil, "jobs", "-prefork", "4", "-concurrency", "3", "-heartbeat", beats, "-access-log", path, "-access-format", "json",
		"-kill-grace", "10ms", "-soak", "0s", "-drain-timeout", "500ms")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				kind := []string{"sleep", "spin", "sleep"}[r.IntN(3)]
				v, err := ask(fmt.Sprintf("%s/job?seconds=0.0%d&kind=%s&id=j%d-%d", d.addr, r.IntN(10), kind, i, n))
				if err != nil {
					t.Error(err)
					return
				}
				if r.IntN(3) == 0 {
					time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
				} else {
					v.answer() // or not: its child may be killed
				}
				v.conn.Close()
			}
		})
	}
	for i := range scaled(6, 20) {
		time.Sleep(150 * time.Millisecond)
		switch i % 4 {
		case 1:
			if out, err := s.command("brood", "upgrade", d.run).CombinedOutput(); err != nil {
				t.Errorf("upgrade: %v: %s", err, out)
			}
		case 3:
			if pid, err := d.pick("busy=true"); err == nil {
				kill(pid, syscall.SIGKILL)
			}
		}
	}
	close(stop)
	wg.Wait()
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, err := accessLines(path, "json")
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]int{}
	for id, lines := range all {
		if len(lines) != 1 {
			t.Errorf("%d lines of %s: %+v", len(lines), id, lines)
		}
		ends[lines[0].End]++
	}
	begun, err := os.ReadDir(beats)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range begun {
		if len(all[f.Name()]) == 0 {
			t.Errorf("job %s has begun and has no line", f.Name())
		}
	}
	t.Logf("%d jobs: %v", len(all), ends)
	for _, end := range []string{"done", "cancelled: client gone", "killed: client gone", "died"} {
		if ends[end] == 0 && !testing.Short() {
			t.Errorf("no job has ended as %q: too little to mean anything", end)
		}
	}
	if log, err := os.ReadFile(d.log); err != nil || bytes.Contains(log, []byte("is lost")) || bytes.Contains(log, []byte("dropped")) {
		t.Errorf("%v: lines were lost:\n%s", err, tail(log, 30))
	}
}

// What a client says forges no line and breaks none.
func TestAccessHostile(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"combined", "common", "json"} {
		a := openAccess(t, format, "-prefork", "1")
		const agent = "a\"b\\c\td\xff\u202e\u0085 127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \\\" end=\"died\""
		for _, request := range []string{
			"GET /?id=h\"\\\"%0a\xfe\u2028\\ HTTP/1.1\r\nHost: x\r\nReferer: \"\\\\\"\r\nUser-Agent: " + agent + "\r\n\r\n",
			"GET /?id=" + strings.Repeat("long\"", 5000) + " HTTP/1.1\r\nHost: x\r\nUser-Agent: " + strings.Repeat("\xff", 9000) + "\r\n\r\n",
			"FORGE\"D /?id=i HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /?id=k HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n\x00E1\x1f1\r\n\r\n", // no header: refused
		} {
			v, err := visitTo(a.d.addr)
			if err != nil {
				t.Fatal(err)
			}
			v.conn.SetDeadline(time.Now().Add(requestTime))
			if _, err := v.conn.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			v.answer()
			v.conn.Close()
		}
		if _, err := get(a.d.addr + "/?id=last"); err != nil {
			t.Fatal(err)
		}
		a.one("last", "done", 200)
		all, err := accessLines(a.path, format)
		n := 0
		for id, lines := range all {
			n += len(lines)
			for _, l := range lines {
				if format != "common" && (l.End != "done" || l.PID == 0) {
					t.Errorf("%s %s: %+v", format, id, l)
				}
				if want := strings.ToValidUTF8(agent, "\ufffd"); format == "json" && strings.HasPrefix(id, "h") && l.UserAgent != want {
					t.Errorf("the user agent is %q, want %q", l.UserAgent, want)
				}
			}
		}
		if err != nil || n < 3 || n > 4 {
			t.Errorf("%s: %d lines, %v", format, n, err)
		}
		log, _ := os.ReadFile(a.path)
		if bytes.ContainsFunc(log, func(r rune) bool {
			return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2028
		}) {
			t.Errorf("%s: %q", format, log)
		}
	}
}

// Connections are jobs, too. They say nothing of themselves but who it was and how much he got.
func TestAccessConns(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	path := filepath.Join(s.dir, "access.log")
	d, err := s.serve(nil, "echod", "-prefork", "1", "-access-log", path, "-access-format", "json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(d.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "over and out\n")
	c.Read(make([]byte, 100))
	c.Close()
	if err := eventually(patience, func() error {
		all, err := accessLines(path, "json")
		if err != nil {
			return err
		}
		if l := all[""]; len(l) != 1 || l[0].Bytes != 13 || l[0].End != "done" || l[0].Client != c.LocalAddr().String() {
			return fmt.Errorf("%+v", all)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
