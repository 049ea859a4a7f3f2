package daemon

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a child tells is what its parent reads, whatever bytes it is made of.
func TestRecord(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, s := range []string{"", "GET / HTTP/1.1", string(every), "\x10\x10\x1f\x10", strings.Repeat("\n", maxAgent)} {
		want := visit{Job: 7, Start: time.UnixMicro(1234567), Client: "1.2.3.4:5", User: cutTo(s, maxName), Line: s, Referer: s, Agent: cutTo(s, maxAgent)}
		line, found := bytes.CutSuffix(appendBegin(nil, 9, want), []byte("\n"))
		if !found || bytes.ContainsAny(line, "\n\r") || !isRecord(line) {
			t.Errorf("%q", line)
		}
		n, got, _, err := parseRecord(line)
		if err != nil || n != 9 {
			t.Errorf("%q: %v", line, err)
		} else if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
		end := outcome{Took: time.Hour, Status: 200, Bytes: 1 << 40, End: endTimeout, Line: s}
		n, _, back, err := parseRecord(bytes.TrimSuffix(appendEnd(nil, 9, end), []byte("\n")))
		if err != nil || n != 9 {
			t.Error(err)
		} else if diff := cmp.Diff(end, *back); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	}
}

// Whatever time a child says, what is kept of it can be handed over: else no upgrade would succeed as long as it lives.
func TestRecordTimes(t *testing.T) {
	for _, micro := range []int64{0, maxStart, maxStart + 1, 1<<63 - 1} {
		line := bytes.TrimSuffix(appendBegin(nil, 1, visit{Start: time.UnixMicro(micro)}), []byte("\n"))
		_, begin, _, err := parseRecord(line)
		if micro > maxStart {
			if err == nil {
				t.Errorf("%d: %v", micro, begin.Start)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d: %v", micro, err)
			continue
		}
		if _, err := json.Marshal(begin); err != nil {
			t.Error(err)
		}
	}
}

// A program's own lines are never records.
func TestOwnLines(t *testing.T) {
	p := &pipeOf{t: t}
	own := ownLines{p.open()}
	for _, s := range []string{"one\n", "\x00E1\x1f\n", "a\n\x00B\n"} {
		if n, err := own.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	if got, want := p.read(), "one\n\\x00E1\x1f\na\n\\x00B\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A line that went in half, because nobody reads, takes no other line with it.
func TestTornLine(t *testing.T) {
	p := &pipeOf{t: t}
	pipe := p.open()
	if n, err := pipe.Write(bytes.Repeat([]byte("x"), 1<<20)); err == nil || n == 0 {
		t.Fatalf("%d, %v", n, err)
	}
	torn := p.read()
	if _, err := pipe.Write([]byte("whole\n")); err != nil {
		t.Fatal(err)
	}
	if got := p.read(); strings.Trim(torn, "x") != "" || got != "\nwhole\n" {
		t.Errorf("%q after %d bytes", got, len(torn))
	}
}

// Whatever a child sends as records, the parent writes whole lines of the format, and not one more than have begun.
func FuzzRecords(f *testing.F) {
	f.Add(appendEnd(appendBegin(nil, 1, visit{Line: "GET /"}), 1, outcome{End: endDone}))
	f.Add([]byte("\x00B1\x1f1\x1f1\x1f\x1f\x1f\x10J\x1f\x1f\n\x00E1\x1f1\x1f99\x1f1\x1fdone\x1f\xff\n"))
	f.Add([]byte("\x00E18446744073709551616\x1f-1\x1f\x1f\x1f\x1f\n\x00\n\x00B\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for line := range bytes.Lines(in) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if !isRecord(line) {
				continue
			}
			_, begin, end, err := parseRecord(line)
			if (err == nil) != (begin != nil != (end != nil)) {
				t.Fatalf("%q: %v, %v, %v", line, begin, end, err)
			}
			a := &accessed{}
			if begin != nil {
				a.visit = *begin
			}
			if end != nil {
				a.outcome = *end
			}
			for _, format := range []AccessFormat{AccessCombined, AccessCommon, AccessJSON} {
				out := format.append(nil, a)
				if bytes.IndexByte(out, '\n') != len(out)-1 {
					t.Fatalf("%s: %q", format, out)
				}
				if format == AccessJSON && !json.Valid(out) {
					t.Fatalf("no JSON: %q", out)
				}
			}
			if out := AccessJSON.ownLine(origin{}, line, time.Time{}); !json.Valid(out) {
				t.Fatalf("no JSON: %q", out)
			}
		}
	})
}

// The name of a host may become known before its job's end: the lines of that job have it, and no others. A parent that does not
// know such records leaves them alone.
func TestRecordHost(t *testing.T) {
	for _, host := range []string{"a.example.org", "\x10\x1f\n\x00", strings.Repeat("x", 300)} {
		line := bytes.TrimSuffix(appendHost(nil, 7, host), []byte("\n"))
		job, got, ok := parseHost(line)
		if !ok || job != 7 || got != cutTo(host, maxHost) || !isRecord(line) || bytes.ContainsAny(line, "\n\r") {
			t.Errorf("%q: %d, %q, %v", line, job, got, ok)
		}
		if n, begin, end, err := parseRecord(line); err == nil {
			t.Errorf("it is taken for %d, %v, %v", n, begin, end)
		}
	}
	for _, line := range []string{"\x00H", "\x00H7", "\x00Hx\x1fa", "\x00B7\x1fa", "\x00H-1\x1fa"} {
		if job, host, ok := parseHost([]byte(line)); ok {
			t.Errorf("%q: %d, %q", line, job, host)
		}
	}
	p := &Parent{cfg: enough()}
	g := p.openLedger(origin{}, nil)
	for number, job := range []uint64{7, 7, 8} {
		g.take(bytes.TrimSuffix(appendBegin(nil, uint64(number), visit{Job: job, Start: time.Unix(1, 0)}), []byte("\n")))
	}
	g.take(bytes.TrimSuffix(appendHost(nil, 7, "long.example.org"), []byte("\n")))
	g.take(bytes.TrimSuffix(appendHost(nil, 7, "a.example"), []byte("\n")))
	if g.Open[0].Host != "a.example" || g.Open[1].Host != "a.example" || g.Open[2].Host != "" {
		t.Errorf("%+v", g.Open)
	}
	for number := range uint64(3) {
		g.take(bytes.TrimSuffix(appendEnd(nil, number, outcome{End: endDone}), []byte("\n")))
	}
	if g.bytes != 0 || len(g.Open) != 0 {
		t.Errorf("%d bytes are kept of %d jobs", g.bytes, len(g.Open))
	}
	a := accessed{visit: visit{Client: "10.0.0.1:80", Host: "a.example"}, outcome: outcome{End: endDone}}
	if s := string(AccessCommon.append(nil, &a)); !strings.HasPrefix(s, "a.example - - [") {
		t.Error(s)
	}
	if s := string(AccessJSON.append(nil, &a)); !strings.Contains(s, `"client":"10.0.0.1:80","host":"a.example",`) {
		t.Error(s)
	}
}
