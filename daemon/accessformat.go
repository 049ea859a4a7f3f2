package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/brooddaemon/brood/internal/logs"
)

// An AccessFormat is how lines of the access log look.
type AccessFormat string

const (
	// AccessCombined is the format of that name which Apache and others have: what AccessCommon has, referer and user agent; and
	// behind that, where readers of the classic format do not look, pid=, slot=, generation=, job=, us= (how long it took, in
	// microseconds) and end= (how it ended), and if its child ended with it exit= and cause=.
	AccessCombined AccessFormat = "combined"
	// AccessCommon is the Common Log Format and nothing else. How a job ended is to be seen from the status alone.
	AccessCommon AccessFormat = "common"
	// AccessJSON is an object for each line, with all that AccessCombined has, by name.
	AccessJSON AccessFormat = "json"
	// AccessOwn leaves the access log to the program, which writes to Child.AccessLog. Only for a child that has ended in the
	// middle of a job the parent writes a line, which begins with "unfinished".
	AccessOwn AccessFormat = "own"
)

// complete fills in the default.
func (f *AccessFormat) complete() error {
	switch *f {
	case "":
		*f = AccessCombined
	case AccessCombined, AccessCommon, AccessJSON, AccessOwn:
	default:
		return fmt.Errorf("field AccessFormat is %q: want %q, %q, %q or %q", *f, AccessCombined, AccessCommon, AccessJSON, AccessOwn)
	}
	return nil
}

// An accessed is all that there is to say about a job in the access log.
type accessed struct {
	visit
	outcome
	from        origin
	exit, cause string // of a child that has ended with it
}

const (
	clfTime  = "02/Jan/2006:15:04:05 -0700"
	jsonTime = "2006-01-02T15:04:05.000000Z"

	// statusGone is what nginx calls the end of a request whose client has closed the connection before it was answered.
	statusGone = 499
)

// append makes a line of it.
func (f AccessFormat) append(b []byte, a *accessed) []byte {
	if a.outcome.Line != "" {
		a.visit.Line = a.outcome.Line
	}
	if f == AccessJSON {
		return appendJSONLine(b, a)
	}
	b = appendWord(b, cmp.Or(a.Host, hostOf(a.Client)))
	b = append(b, " - "...)
	b = appendWord(b, a.User)
	b = append(b, " ["...)
	b = a.Start.UTC().AppendFormat(b, clfTime)
	b = appendQuoted(append(b, "] "...), orNone(a.visit.Line))
	status := a.status() // three digits at most
	b = append(b, ' ', byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	if a.Bytes > 0 {
		b = strconv.AppendInt(b, a.Bytes, 10)
	} else {
		b = append(b, '-')
	}
	if f == AccessCombined {
		b = appendQuoted(append(b, ' '), orNone(a.Referer))
		b = appendQuoted(append(b, ' '), orNone(a.Agent))
		b = a.from.append(b)
		b = strconv.AppendUint(append(b, " job="...), a.Job, 10)
		b = strconv.AppendInt(append(b, " us="...), a.Took.Microseconds(), 10)
		b = appendQuoted(append(b, " end="...), string(a.End))
		if a.exit != "" {
			b = appendQuoted(append(b, " exit="...), a.exit)
		}
		if a.cause != "" {
			b = appendQuoted(append(b, " cause="...), a.cause)
		}
	}
	return append(b, '\n')
}

// status is what nginx writes of a client who left before he was answered, where there is no status.
func (a *accessed) status() int {
	if a.Status == 0 && (a.End == endGone || a.End == endKilledGone) {
		return statusGone
	}
	return a.Status
}

func appendJSONLine(b []byte, a *accessed) []byte {
	b = append(b, `{"time":"`...)
	b = a.Start.UTC().AppendFormat(b, jsonTime)
	b = append(b, '"')
	for _, t := range [...]struct{ name, value string }{
		{"client", a.Client}, {"host", a.Host}, {"user", a.User}, {"request", a.visit.Line}, {"referer", a.Referer}, {"user_agent", a.Agent},
	} {
		b = appendMember(b, t.name, t.value)
	}
	for _, n := range [...]struct {
		name  string
		value int64
	}{
		{"status", int64(a.status())}, {"bytes", a.Bytes}, {"us", a.Took.Microseconds()}, {"pid", int64(a.from.PID)}, {"slot", int64(a.from.Slot)},
		{"generation", int64(a.from.Generation)}, {"job", int64(a.Job)},
	} {
		b = append(append(append(b, `,"`...), n.name...), `":`...)
		b = strconv.AppendInt(b, n.value, 10)
	}
	for _, t := range [...]struct{ name, value string }{{"end", string(a.End)}, {"exit", a.exit}, {"cause", a.cause}} {
		b = appendMember(b, t.name, t.value)
	}
	return append(b, '}', '\n')
}

// appendMember appends a member of an object that has one already, unless it is empty.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return appendJSON(b, value)
}

// ownLine makes a line of one that a program has written, stamped with the time and with who has written it.
func (f AccessFormat) ownLine(from origin, line []byte, now time.Time) []byte {
	if f == AccessJSON {
		b := append([]byte(nil), `{"time":"`...)
		b = now.UTC().AppendFormat(b, jsonTime)
		b = fmt.Appendf(b, `","pid":%d,"slot":%d,"generation":%d,"message":`, from.PID, from.Slot, from.Generation)
		return append(appendJSON(b, string(line)), '}', '\n')
	}
	b := now.UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z")
	b = from.append(b)
	return append(logs.AppendEscape(append(b, ' '), line), '\n')
}

// append appends who it is, as words.
func (o origin) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, " pid="...), int64(o.PID), 10)
	b = strconv.AppendInt(append(b, " slot="...), int64(o.Slot), 10)
	return strconv.AppendUint(append(b, " generation="...), o.Generation, 10)
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// hostOf is the client's address without his port, as the classic formats have it.
func hostOf(client string) string {
	if ap, err := netip.ParseAddrPort(client); err == nil {
		return ap.Addr().Unmap().String()
	}
	return client
}

// appendWord appends one word: what would be taken for the next one, or a quotation, is escaped.
func appendWord(b []byte, s string) []byte {
	from := len(b)
	b = logs.AppendEscape(b, []byte(orNone(s)))
	for i := from; i < len(b); i++ {
		if c := b[i]; c == ' ' || c == '\t' || c == '"' || c == '[' {
			b[i] = '_'
		}
	}
	return b
}

// appendQuoted appends a quoted text as Apache does: quotation marks and backslashes get a backslash. The rest is escaped as in every
// log.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(logs.AppendEscape(b, []byte(s[done:i])), '\\')
			done = i
		}
	}
	return append(logs.AppendEscape(b, []byte(s[done:])), '"')
}

// appendJSON appends a string of JSON. What logs escape, so that it shows as what it is, is escaped here in JSON's own way; a byte
// that is not UTF-8 becomes U+FFFD.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	from := len(b)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(append(b[:from], logs.EscapeJSON(b[from:])...), '"')
}

// dropped makes the line in the place of n that found no room.
func (f AccessFormat) dropped(n uint64) []byte {
	if f == AccessJSON {
		return fmt.Appendf(nil, "{\"time\":%q,\"dropped\":%d}\n", time.Now().UTC().Format(jsonTime), n)
	}
	return fmt.Appendf(nil, "… %d lines dropped\n", n)
}
