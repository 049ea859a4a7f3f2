package test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// An accessLine is a line of the access log, in whatever format.
type accessLine struct {
	Time       time.Time
	Client     string
	Request    string
	Status     int
	Bytes      int64
	Referer    string
	UserAgent  string `json:"user_agent"`
	US         int64
	PID, Slot  int
	Generation uint64
	Job        uint64
	End        string
	Exit       string
	Cause      string
}

// quoted is what stands between quotation marks in Apache's formats. Behind the combined format comes what readers of it do not
// look for.
const (
	quotedText = `"((?:[^"\\]|\\.)*)"`
	commonText = `^(\S+) (\S+) (\S+) \[(\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] ` + quotedText + ` (\d{3}) (\d+|-)`
)

var (
	commonPattern   = regexp.MustCompile(commonText + `$`)
	combinedPattern = regexp.MustCompile(commonText + ` ` + quotedText + ` ` + quotedText + `( .*)$`)
	pairPattern     = regexp.MustCompile(` ([a-z]+)=(?:` + quotedText + `|(\d+))`)
	idPattern       = regexp.MustCompile(`[?&]id=([A-Za-z0-9_-]+)`)
)

func parseAccess(format, line string) (a accessLine, err error) {
	if format == "json" {
		return a, json.Unmarshal([]byte(line), &a)
	}
	pattern := map[string]*regexp.Regexp{"common": commonPattern, "combined": combinedPattern}[format]
	m := pattern.FindStringSubmatch(line)
	if m == nil {
		return a, fmt.Errorf("no line of the %s format: %q", format, line)
	}
	a.Client, a.Request = m[1], m[5]
	fmt.Sscan(m[6], &a.Status)
	if m[7] != "-" {
		fmt.Sscan(m[7], &a.Bytes)
	}
	if a.Time, err = time.Parse("02/Jan/2006:15:04:05 -0700", m[4]); err != nil || format == "common" {
		return a, err
	}
	a.Referer, a.UserAgent = m[8], m[9]
	if rest := pairPattern.ReplaceAllString(m[10], ""); rest != "" {
		return a, fmt.Errorf("%q left over in %q", rest, line)
	}
	for _, p := range pairPattern.FindAllStringSubmatch(m[10], -1) {
		switch p[1] {
		case "end":
			a.End = p[2]
		case "exit":
			a.Exit = p[2]
		case "cause":
			a.Cause = p[2]
		case "pid":
			fmt.Sscan(p[3], &a.PID)
		case "job":
			fmt.Sscan(p[3], &a.Job)
		case "us":
			fmt.Sscan(p[3], &a.US)
		}
	}
	return a, nil
}

// accessLines reads an access log: all of its lines must be of the format.
func accessLines(path, format string) (map[string][]accessLine, error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string][]accessLine{}
	for line := range strings.Lines(string(log)) {
		if !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("half a line: %q", line)
		}
		a, err := parseAccess(format, strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		id := a.Request
		if m := idPattern.FindStringSubmatch(a.Request); m != nil {
			id = m[1]
		}
		all[id] = append(all[id], a)
	}
	return all, nil
}
