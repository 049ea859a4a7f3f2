package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// startWeb runs brood web and returns its address.
func startWeb(t *testing.T, s *site, change func(*exec.Cmd), args ...string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = s.command("brood", append([]string{"web", "--listen", "127.0.0.1:0"}, args...)...)
	if change != nil {
		change(cmd)
	}
	var complaints bytes.Buffer
	out, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = &complaints
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("brood web: %v\n%s", err, &complaints)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSuffix(line, "/\n")
}

// fetch gets a page of brood web.
func fetch(url string) (int, string, error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// healthy waits until /healthz answers with a status and a line that has some words.
func healthy(t *testing.T, url string, want int, words string) {
	t.Helper()
	if err := eventually(patience, func() error {
		code, text, err := fetch(url + "/healthz")
		if err == nil && (code != want || !strings.Contains(text, words)) {
			err = fmt.Errorf("%d %q, want %d and %q", code, text, want, words)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// brood web tells how a daemon does before it runs, while it serves, when its parent is stopped, and after that has been
// killed; and it ends when it is told to.
func TestWeb(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	run := s.dir + "/daemon"
	_, url := startWeb(t, s, nil, "d="+run)
	healthy(t, url, 503, "there is no "+run)
	d := mustServe(t, s, "jobs", "-run-dir", run)
	healthy(t, url, 200, "d: ok")
	for _, path := range []string{"/", "/d/d/", "/status.json", "/metrics"} {
		if code, text, err := fetch(url + path); err != nil || code != 200 || !strings.Contains(text, d.addr) {
			t.Errorf("%s: %d %v\n%s", path, code, err, text)
		}
	}
	sameShape(t, d, url)
	if err := kill(d.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	healthy(t, url, 503, "is stopped")
	if err := kill(d.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	healthy(t, url, 200, "d: ok")
	if err := kill(d.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	healthy(t, url, 503, "is dead")
	if code, text, err := fetch(url + "/metrics"); err != nil || code != 200 || !strings.Contains(text, `brood_up{daemon="d"} 0`) {
		t.Errorf("%d %v\n%s", code, err, text)
	}
}

// sameShape wants /status.json to have what brood status --json has.
func sameShape(t *testing.T, d *server, url string) {
	t.Helper()
	out, err := d.site.command("brood", "status", "--json", d.run).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := fetch(url + "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var one map[string]any
	var all map[string]map[string]any
	if err := errors.Join(json.Unmarshal(out, &one), json.Unmarshal([]byte(text), &all)); err != nil {
		t.Fatal(err)
	}
	want, got := slices.Sorted(maps.Keys(one)), slices.Sorted(maps.Keys(all["d"]))
	if len(want) < 5 || !slices.Equal(want, got) {
		t.Errorf("/status.json has %v, brood status --json has %v", got, want)
	}
}

// The daemons of root can be shown by a process that is not root and may do nothing but read.
func TestWebOfRoot(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	s := openSite(t)
	d := mustServe(t, s, "jobs")
	if st, err := os.Stat(d.run); err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", st, err)
	}
	cmd, url := startWeb(t, s, func(cmd *exec.Cmd) {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
			AmbientCaps: []uintptr{unix.CAP_DAC_READ_SEARCH},
		}
	}, "d="+d.run)
	healthy(t, url, 200, "d: ok")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(b), "CapEff:\t0000000000000004\n") || !strings.Contains(string(b), "Uid:\t65534\t") {
		t.Errorf("%v\n%s", err, b)
	}
	_, other := startWeb(t, s, func(cmd *exec.Cmd) {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}, "d="+d.run)
	healthy(t, other, 503, "permission denied")
}

// Its command line.
func TestWebUsage(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	for args, want := range map[string]string{
		"":                "which daemons?",
		"a=/x a=/y":       "two daemons would be called",
		"/x/y!":           "LABEL=DIR",
		"--listen :x a=/": "unknown port",
	} {
		cmd := s.command("brood", append([]string{"web"}, strings.Fields(args)...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
