package daemon

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// A child tells its parent of jobs by records, in the pipe of the access log. A record is a line that begins with a NUL byte, which
// no line of a program does, and the letter of its kind. Its fields are separated by the byte 0x1f; what would be taken for
// something else in them is stuffed. The parent makes the line of the log: it knows who has written the record, and it is there when
// the child is not any more.
const (
	recordMark    = 0
	recordBegin   = 'B' // number, job, start, and what was asked for
	recordHost    = 'H' // job, name of the client's host; it may come at any time in between
	recordEnd     = 'E' // number, microseconds, status, bytes, how it ended, the request line if it has become known
	fieldMark     = 0x1f
	stuffMark     = 0x10 // and then the byte, with bit 6 turned
	recordVersion = 1    // of what is said here; the parent tells the child which one it understands
)

// What is kept of each field.
const (
	maxLine    = 4096
	maxReferer = 1024
	maxAgent   = 512
	maxName    = 128 // of client and user
	maxHost    = 256
)

// maxStart is the end of the year 9999, in microseconds since 1970: no later one can be handed over, see time.Time.MarshalJSON.
const maxStart = 253402300800_000000 - 1

// A visit is what a client has asked for, and when.
type visit struct {
	Job     uint64    `json:"job"`
	Start   time.Time `json:"start"`
	Client  string    `json:"client,omitempty"` // address
	Host    string    `json:"host,omitempty"`   // its name, if it has become known
	User    string    `json:"user,omitempty"`
	Line    string    `json:"line,omitempty"`
	Referer string    `json:"referer,omitempty"`
	Agent   string    `json:"agent,omitempty"`
}

// An outcome is how that came out.
type outcome struct {
	Took   time.Duration
	Status int // 0: nothing was answered
	Bytes  int64
	End    ending
	Line   string // in the place of what the visit says; empty: that holds
}

// An ending says how a job ended.
type ending string

// The endings. A child can tell of the first ones only.
const (
	endDone          ending = "done"
	endFailed        ending = "failed" // its handler panicked
	endGone          ending = "cancelled: client gone"
	endTimeout       ending = "cancelled: timeout"
	endEvicted       ending = "evicted"
	endNothing       ending = "" // nobody had asked for anything: it was no job
	endKilledGone    ending = "killed: client gone"
	endKilledTimeout ending = "killed: timeout"
	endKilled        ending = "killed"
	endDied          ending = "died"
)

// endings are what a child may say.
var endings = map[string]ending{
	string(endDone): endDone, string(endFailed): endFailed, string(endGone): endGone, string(endTimeout): endTimeout,
	string(endEvicted): endEvicted, string(endNothing): endNothing,
}

// appendBegin appends the record of something that begins.
func appendBegin(b []byte, number uint64, a visit) []byte {
	b = append(b, recordMark, recordBegin)
	b = strconv.AppendUint(b, number, 10)
	b = strconv.AppendUint(append(b, fieldMark), a.Job, 10)
	b = strconv.AppendInt(append(b, fieldMark), a.Start.UnixMicro(), 10)
	b = stuff(append(b, fieldMark), cutTo(a.Client, maxName))
	b = stuff(append(b, fieldMark), cutTo(a.User, maxName))
	b = stuff(append(b, fieldMark), cutTo(a.Line, maxLine))
	b = stuff(append(b, fieldMark), cutTo(a.Referer, maxReferer))
	b = stuff(append(b, fieldMark), cutTo(a.Agent, maxAgent))
	return append(b, '\n')
}

// appendHost appends the record of a name that has become known, of all that belongs to the job.
func appendHost(b []byte, job uint64, host string) []byte {
	b = strconv.AppendUint(append(b, recordMark, recordHost), job, 10)
	b = stuff(append(b, fieldMark), cutTo(host, maxHost))
	return append(b, '\n')
}

// appendEnd appends the record of its end.
func appendEnd(b []byte, number uint64, a outcome) []byte {
	b = append(b, recordMark, recordEnd)
	b = strconv.AppendUint(b, number, 10)
	b = strconv.AppendInt(append(b, fieldMark), a.Took.Microseconds(), 10)
	b = strconv.AppendInt(append(b, fieldMark), int64(a.Status), 10)
	b = strconv.AppendInt(append(b, fieldMark), a.Bytes, 10)
	b = append(append(b, fieldMark), a.End...)
	b = stuff(append(b, fieldMark), cutTo(a.Line, maxLine))
	return append(b, '\n')
}

// cutTo leaves a mark where something is missing.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

func marks(c byte) bool {
	return c == '\n' || c == '\r' || c == recordMark || c == fieldMark || c == stuffMark
}

func stuff(b []byte, s string) []byte {
	done := 0
	for i := range len(s) {
		if marks(s[i]) {
			b = append(append(b, s[done:i]...), stuffMark, s[i]^0x40)
			done = i + 1
		}
	}
	return append(b, s[done:]...)
}

// parseHost reads such a record; ok is false if it is another one, or makes no sense.
func parseHost(line []byte) (job uint64, host string, ok bool) {
	number, name, ok := bytes.Cut(line[2:], []byte{fieldMark})
	job, err := strconv.ParseUint(string(number), 10, 64)
	host = unstuff(name)
	return job, host[:min(len(host), maxHost+len("…"))], ok && err == nil && line[1] == recordHost
}

func unstuff(b []byte) string {
	if bytes.IndexByte(b, stuffMark) < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == stuffMark && i+1 < len(b) {
			i++
			c = b[i] ^ 0x40
		}
		out = append(out, c)
	}
	return string(out)
}

// isRecord reports whether a line is a record.
func isRecord(line []byte) bool { return len(line) > 1 && line[0] == recordMark }

// parseRecord reads one of a child, which may be in a stranger's hands: exactly one of the two is not nil, or there is an error.
func parseRecord(line []byte) (number uint64, begin *visit, end *outcome, err error) {
	fields := bytes.Split(line[2:], []byte{fieldMark})
	var n [4]int64
	numbers, want := 0, 0
	switch line[1] {
	case recordBegin:
		numbers, want = 3, 8
	case recordEnd:
		numbers, want = 4, 6
	}
	if len(fields) != want {
		return 0, nil, nil, fmt.Errorf("record %q of %d fields", line[1], len(fields))
	}
	for i := range numbers {
		if n[i], err = strconv.ParseInt(string(fields[i]), 10, 64); err != nil || n[i] < 0 {
			return 0, nil, nil, fmt.Errorf("field %d is %.20q", i, fields[i])
		}
	}
	text := func(i, most int) string {
		s := unstuff(fields[i])
		return s[:min(len(s), most+len("…"))]
	}
	number = uint64(n[0])
	if line[1] == recordBegin {
		if n[2] > maxStart {
			return 0, nil, nil, fmt.Errorf("began %d microseconds after 1970", n[2])
		}
		return number, &visit{
			Job: uint64(n[1]), Start: time.UnixMicro(n[2]).UTC(), Client: text(3, maxName), User: text(4, maxName), Line: text(5, maxLine),
			Referer: text(6, maxReferer), Agent: text(7, maxAgent),
		}, nil, nil
	}
	how, ok := endings[string(fields[4])]
	if !ok || n[2] > 999 {
		return 0, nil, nil, fmt.Errorf("ended as %.20q with status %d", fields[4], n[2])
	}
	took := time.Duration(min(n[1], int64(1<<62/time.Microsecond))) * time.Microsecond
	return number, nil, &outcome{Took: took, Status: int(n[2]), Bytes: n[3], End: how, Line: text(5, maxLine)}, nil
}
