package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Unit is what the [Service] section of a unit file of systemd says: the values of each name, in their order.
type Unit map[string][]string

// ParseUnit reads a unit file, or several one after the other, as systemctl cat prints them. An empty value takes back those before.
func ParseUnit(text string) Unit {
	u := Unit{}
	section, line := "", ""
	for part := range strings.Lines(text) {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, "#") || strings.HasPrefix(part, ";") {
			continue // also between lines that belong together
		}
		if rest, more := strings.CutSuffix(part, `\`); more {
			line += rest + " "
			continue
		}
		line += part
		name, value, ok := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line
		case !ok || section != "[Service]":
		case strings.TrimSpace(value) == "":
			delete(u, strings.TrimSpace(name))
		default:
			name = strings.TrimSpace(name)
			u[name] = append(u[name], strings.TrimSpace(value))
		}
		line = ""
	}
	return u
}

// last is the value that counts, or what systemd takes for none.
func (u Unit) last(name, otherwise string) string {
	if values := u[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return otherwise
}

// ServiceOf returns the unit that a process belongs to, by its control group; empty: to none.
func ServiceOf(s System, pid int) string {
	text, _ := s.read(s.proc(pid, "cgroup"))
	for line := range strings.Lines(text) {
		elems := strings.Split(strings.TrimSpace(line), "/")
		for i := len(elems) - 1; i > 0; i-- { // what lies below the unit's group is the daemon's own
			if strings.HasSuffix(elems[i], ".service") && !strings.HasPrefix(elems[i], "user@") {
				return elems[i]
			}
		}
	}
	return ""
}

// CheckUnit looks whether a unit file fits the daemon.
func CheckUnit(u Unit, d Daemon) []Finding {
	const check = "unit file"
	var found []Finding
	say := func(level Level, fix, what string, args ...any) {
		found = append(found, one(level, check, fix, what, args...)...)
	}
	kind := u.last("Type", "simple")
	notifies := kind == "notify" || kind == "notify-reload"
	switch {
	case d.Settings.Daemonize && kind != "forking":
		say(Fail, "start it without -daemonize", "it goes into the background, and systemd takes that for its end")
	case kind == "notify":
		say(Warn, "Type=notify-reload, from systemd 253 on", "Type=notify: systemctl reload does not wait for the outcome")
	case !notifies:
		say(Warn, "Type=notify-reload", "Type=%s: systemd does not know when the daemon is up, nor how it is", kind)
	}
	if notifies && u.last("NotifyAccess", "main") == "none" {
		say(Fail, "NotifyAccess=main", "NotifyAccess=none: what the daemon says is not heard, and its start times out")
	}
	stop := u.last("TimeoutStopSec", u.last("TimeoutSec", "90"))
	if limit, err := timeSpan(stop); err != nil {
		say(Warn, "TimeoutStopSec=45", "TimeoutStopSec=%s cannot be read: %v", stop, err)
	} else if need := d.Settings.StopTimeout; limit != 0 && limit <= need {
		say(Fail, fmt.Sprintf("TimeoutStopSec=%d, or a shorter -stop-timeout", int((need+15*time.Second).Seconds())),
			"TimeoutStopSec=%s is not longer than -stop-timeout, %v: jobs are killed that the daemon would have ended", stop, need)
	}
	if mode := u.last("KillMode", "control-group"); mode != "control-group" && mode != "mixed" {
		say(Fail, "KillMode=mixed", "KillMode=%s: what jobs have started outlives a daemon that does not stop", mode)
	}
	if n, _ := strconv.Atoi(u.last("FileDescriptorStoreMax", "0")); n < max(len(d.Listen), 1) {
		say(Warn, fmt.Sprintf("FileDescriptorStoreMax=%d or more", max(len(d.Listen), 1)),
			"FileDescriptorStoreMax=%d: clients are refused while a parent that has died is started again", n)
	}
	if restart := u.last("Restart", "no"); restart == "no" || restart == "on-success" {
		say(Warn, "Restart=on-failure", "Restart=%s: a parent that dies stays dead", restart)
	}
	if len(found) == 0 {
		say(OK, "", "it fits")
	}
	return found
}

// units of time as systemd.time(7) has them.
var units = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// timeSpan reads a span of time as unit files have it; 0 is no limit.
func timeSpan(text string) (time.Duration, error) {
	if text == "infinity" {
		return 0, nil
	}
	var sum time.Duration
	rest := strings.ReplaceAll(text, " ", "")
	if rest == "" {
		return 0, fmt.Errorf("no span of time: %q", text)
	}
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i < 0 {
			i = len(rest)
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil {
			return 0, fmt.Errorf("no span of time: %q", text)
		}
		rest = rest[i:]
		j := strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' })
		if j < 0 {
			j = len(rest)
		}
		unit, ok := units[rest[:j]]
		if !ok {
			return 0, fmt.Errorf("no unit of time: %q", rest[:j])
		}
		sum += time.Duration(n * float64(unit))
		rest = rest[j:]
	}
	return sum, nil
}

// Failed reports whether one of the findings is a failure.
func Failed(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Fail })
}
