package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A talk is what is found of one child's stream: how often each number is there, the highest one, and whether it was the last one.
type talk struct {
	times   map[int]int
	highest int
	ended   bool
}

var (
	talkerPattern  = regexp.MustCompile(`talk (\d+) (stdout|access) (\d+) (on|last) (x+)`)
	droppedPattern = regexp.MustCompile(`(\d+) lines? dropped`)
)

// listen reads log files: no line is cut, none is there twice, and from its first to its last one no child misses one, except as many
// as the logs themselves say: a disk that is stuck, or a parent that is starved, for longer than a child waits costs lines. Then a test
// still shows something as long as those are fewer than the others.
func listen(files []string, children, size int) (lines int, err error) {
	talks, dropped := map[string]*talk{}, 0
	for _, path := range files {
		log, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, []byte("talk ")) {
				if m := droppedPattern.FindSubmatch(line); m != nil {
					dropped += number(m[1])
				} else if bytes.Contains(line, []byte("xx")) {
					return 0, fmt.Errorf("%s: %q", path, line)
				}
				continue
			}
			m := talkerPattern.FindSubmatch(line)
			if m == nil || bytes.Count(line, []byte("talk ")) != 1 || len(m[5]) != size || line[len(line)-1] != '\n' {
				return 0, fmt.Errorf("%s: half a line: %q", path, line)
			}
			who := string(m[1]) + " " + string(m[2])
			t := talks[who]
			if t == nil {
				t = &talk{times: map[int]int{}}
				talks[who] = t
			}
			n := number(m[3])
			if t.times[n]++; t.times[n] > 1 {
				return 0, fmt.Errorf("%s: twice: %q", path, line)
			}
			t.highest = max(t.highest, n)
			t.ended = t.ended || string(m[4]) == "last"
			lines++
		}
	}
	missing := 0
	for _, t := range talks {
		missing += t.highest - len(t.times)
		if !t.ended {
			missing++
		}
	}
	if missing > dropped || dropped > lines {
		return 0, fmt.Errorf("%d lines are missing, the logs tell of %d, beside %d that are there", missing, dropped, lines)
	}
	if len(talks) != 2*children {
		return 0, fmt.Errorf("%d streams, want %d", len(talks), 2*children)
	}
	return lines, nil
}

func number(digits []byte) int {
	n, _ := strconv.Atoi(string(digits))
	return n
}

// B51: 50 children write 1000 lines a second each while both logs are rotated, a hundred times in all. Every line is there once, and
// none is cut.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	children, rotations, size := scaled(10, 50), scaled(10, 100), 400
	if raceEnabled {
		children, rotations = 4, 4
	}
	errors, access := filepath.Join(s.dir, "error.log"), filepath.Join(s.dir, "access.log")
	d, err := s.serve(nil, "talker", "-prefork", fmt.Sprint(children), "-rate", "1000", "-size", fmt.Sprint(size), "-error-log", errors, "-access-log", access,
		"-log-max-size", "1", "-log-backups", "-1", "-log-plain")
	if err != nil {
		t.Fatal(err)
	}
	files := func() []string {
		all, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
		var logs []string
		for _, path := range all {
			if name := filepath.Base(path); strings.HasPrefix(name, "error") || strings.HasPrefix(name, "access") {
				logs = append(logs, path)
			}
		}
		return logs
	}
	begun := time.Now()
	if err := eventually(time.Minute, func() error {
		if n := len(files()) - 2; n < rotations {
			return fmt.Errorf("%d rotations, want %d", n, rotations)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	took := time.Since(begun)
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines, err := listen(files(), children, size)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d lines in %v, %d files", lines, took, len(files()))
}

// The real logrotate, with the configuration that is shipped, moves the logs away while children write: no line is lost.
func TestLogrotate(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	program, err := exec.LookPath("logrotate")
	if err != nil {
		if program = "/usr/sbin/logrotate"; !exists(program) {
			t.Skip("logrotate is not installed: what is shipped for it is not tested")
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: logrotate takes no configuration of anybody else")
	}
	s := openSite(t)
	dir := filepath.Join(s.dir, "jobs")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	d, err := s.serve(nil, "talker", "-prefork", "4", "-rate", "1000", "-size", "100", "-log-max-size", "-1",
		"-error-log", filepath.Join(dir, "error.log"), "-access-log", filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := os.ReadFile("../contrib/logrotate/brood")
	if err != nil {
		t.Fatal(err)
	}
	replaced := string(shipped)
	for _, r := range [][2]string{
		{"/var/log/jobs", dir}, {"/run/jobs/pid", filepath.Join(d.run, "pid")}, {"/usr/local/bin/brood reopen jobs", filepath.Join(bin, "brood") + " reopen " + d.run},
	} {
		if !strings.Contains(replaced, r[0]) {
			t.Fatalf("there is no %s in what is shipped", r[0])
		}
		replaced = strings.ReplaceAll(replaced, r[0], r[1])
	}
	conf := filepath.Join(s.dir, "logrotate.conf")
	if err := os.WriteFile(conf, []byte(replaced), 0o644); err != nil {
		t.Fatal(err)
	}
	const times = 5
	for range times {
		time.Sleep(200 * time.Millisecond) // something is to be in each file
		cmd := s.command(program, "-f", "-s", filepath.Join(s.dir, "state"), conf)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("logrotate: %v: %s", err, out)
		}
	}
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.gz"))
	if err != nil || len(packed) != 2*(times-1) {
		t.Errorf("compressed: %q, %v", packed, err)
	}
	for _, path := range packed {
		if out, err := exec.Command("gzip", "-d", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.log*"))
	if len(files) != 2*(times+1) {
		t.Errorf("files: %q", files)
	}
	lines, err := listen(files, 4, 100)
	if err != nil || lines < 4*times*100 {
		t.Errorf("%d lines: %v", lines, err)
	}
	t.Logf("%d lines in %d files", lines, len(files))
	// When no daemon runs it is quiet.
	if out, err := s.command(program, "-f", "-s", filepath.Join(s.dir, "state"), conf).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("without a daemon: %v: %s", err, out)
	}
}
