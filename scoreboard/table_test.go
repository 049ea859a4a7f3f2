package scoreboard

import (
	"bytes"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc64"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A row is one line of the byte tables in docs/SCOREBOARD.md, or one constant of layout.go.
type row struct {
	Name         string
	Offset, Size int
}

// A page is what docs/SCOREBOARD.md says.
type page struct {
	Header, Slot, Event []row

	writers map[string]string // of a slot's rows
	kinds   []string          // of events
}

// readPage reads the tables: rows of four cells in a header, of five in a slot.
func readPage(t *testing.T) page {
	t.Helper()
	text, err := os.ReadFile("../docs/SCOREBOARD.md")
	must(t, err)
	p := page{writers: map[string]string{}}
	section := ""
	for line := range strings.Lines(string(text)) {
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section, _, _ = strings.Cut(strings.TrimSpace(s), ",")
			continue
		}
		for _, m := range kindWords.FindAllStringSubmatch(line, -1) {
			if section != "Event" || m[1] != strconv.Itoa(len(p.kinds)) {
				break
			}
			p.kinds = append(p.kinds, m[2])
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		off, err := strconv.Atoi(cells[0])
		if err != nil || !strings.HasPrefix(line, "|") {
			continue
		}
		size, err := strconv.Atoi(cells[1])
		if err != nil {
			t.Fatalf("a size that is no number: %s", line)
		}
		r := row{cells[2], off, size}
		switch {
		case section == "Header" && len(cells) == 4:
			p.Header = append(p.Header, r)
		case section == "Event" && len(cells) == 4:
			p.Event = append(p.Event, r)
		case section == "Slot" && len(cells) == 5:
			p.Slot = append(p.Slot, r)
			p.writers[r.Name] = cells[3]
		default:
			t.Fatalf("%d cells in section %q: %s", len(cells), section, line)
		}
	}
	return p
}

// The constants that are no rows of a table, and the one whose name is not that of its row.
var (
	noRow   = map[string]bool{"hStatus": true, "hStatusEnd": true}
	renamed = map[string]string{"sSeq": "sequence"}
	offsets = regexp.MustCompile(`^[hse]([A-Z]\w*)$`)
	// A kind of events, with its number.
	kindWords = regexp.MustCompile("(\\d+) `([a-z-]+)`")
	sizes     = regexp.MustCompile(`^(?:(\d+) bytes|u(32|64)|text, (\d+) bytes)`)
)

// readLayout reads the offsets of layout.go from its source, with the sizes that its comments give.
func readLayout(t *testing.T) (p page) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "layout.go", nil, parser.ParseComments)
	must(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		id := spec.Names[0].Name
		m := offsets.FindStringSubmatch(id)
		if m == nil || noRow[id] {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		size := sizes.FindStringSubmatch(strings.TrimSpace(spec.Comment.Text()))
		if !ok || size == nil {
			t.Errorf("%s: want a number and its size: %q", id, spec.Comment.Text())
			return true
		}
		r := row{Name: m[1]}
		r.Offset, _ = strconv.Atoi(lit.Value)
		r.Size, _ = strconv.Atoi(size[1] + size[3])
		if bits, err := strconv.Atoi(size[2]); err == nil {
			r.Size = bits / 8
		}
		if name, ok := renamed[id]; ok {
			r.Name = name
		}
		switch id[0] {
		case 'h':
			p.Header = append(p.Header, r)
		case 's':
			p.Slot = append(p.Slot, r)
		default:
			p.Event = append(p.Event, r)
		}
		return true
	})
	return p
}

// TestTable compares docs/SCOREBOARD.md with layout.go, in both directions and in their order.
func TestTable(t *testing.T) {
	doc, code := readPage(t), readLayout(t)
	// BootID and "boot id" are the same name.
	plain := cmp.Transformer("plain", func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) })
	if diff := cmp.Diff(doc.Header, code.Header, plain); diff != "" {
		t.Errorf("header, page (-) against layout.go (+):\n%s", diff)
	}
	if diff := cmp.Diff(doc.Slot, code.Slot, plain); diff != "" {
		t.Errorf("slot, page (-) against layout.go (+):\n%s", diff)
	}
	if diff := cmp.Diff(doc.Event, code.Event, plain); diff != "" {
		t.Errorf("event, page (-) against layout.go (+):\n%s", diff)
	}
	if diff := cmp.Diff(doc.kinds, eventWords[:]); diff != "" {
		t.Errorf("kinds of events, page (-) against event.go (+):\n%s", diff)
	}
	for _, table := range []struct {
		rows []row
		end  int
	}{{doc.Header, HeaderSize}, {doc.Slot, SlotSize}, {doc.Event, EventSize}} {
		free := 0
		for _, r := range table.rows {
			if r.Offset < free {
				t.Errorf("%s at %d overlaps the row before it", r.Name, r.Offset)
			}
			if r.Size == 8 && r.Offset%8 != 0 {
				t.Errorf("%s at %d is not on a multiple of eight", r.Name, r.Offset)
			}
			free = r.Offset + r.Size
		}
		if free > table.end {
			t.Errorf("the last row ends at %d, after %d", free, table.end)
		}
	}
	for _, r := range doc.Slot {
		want := "child"
		if r.Offset < parentPart {
			want = "parent"
		}
		if doc.writers[r.Name] != want {
			t.Errorf("%s at %d is written by the %s, says the page; want %s", r.Name, r.Offset, doc.writers[r.Name], want)
		}
	}
}

// overlong is a text longer than any field; its bytes differ from one to the next.
func overlong(seed byte) string {
	b := make([]byte, 1000)
	for i := range b {
		b[i] = 'A' + (seed+byte(i%57))%57
	}
	return string(b)
}

// TestBytes fills every field through the API and looks for it where the page says it is. No other byte may be set.
func TestBytes(t *testing.T) {
	doc := readPage(t)
	id := Identity{
		Name: overlong(1), PID: 4711, Start: 1<<40 + 2, BootID: overlong(3),
		Program: overlong(4), PIDFile: overlong(5), ErrorLog: overlong(6),
	}
	before := time.Now().UnixNano()
	b, err := Create(t.TempDir()+"/scoreboard", id, 3)
	must(t, err)
	defer b.Remove()
	after := time.Now().UnixNano()
	must(t, b.SetListen(overlong(7)))
	must(t, b.SetAttention(Attention{Busy: true, Below: 33}))
	must(t, b.SetStatus(Status{
		State: overlong(8), Generation: 1<<40 + 9, Rolling: 1<<40 + 10, Want: 1<<40 + 11, Born: 1<<40 + 12,
		Died: 1<<40 + 13, Killed: 1<<40 + 14, Lost: 1<<40 + 15, Done: 1<<40 + 16, Skipped: 1<<40 + 34, Refused: 1<<40 + 41,
		ReloadAt: time.Unix(0, 1<<40+17), ReloadOK: true, Reload: overlong(18), Trouble: overlong(33),
	}, time.Unix(0, 1<<40+19)))
	must(t, b.Bear(1, Dequeue, 1<<40+20, overlong(21), time.Unix(0, 1<<40+22)))
	must(t, b.SetPID(1, 4712))
	must(t, b.SetPhase(1, PhaseKilling))
	must(t, b.SetRevoked(1, 1<<40+23))
	s := attach(t, b, 1)
	s.SetWork(Work{
		State: Cancelling, Since: time.Unix(0, 1<<40+24), Running: 1<<40 + 26, Done: 1<<40 + 42, Job: Record{Serial: 1<<40 + 25},
	})
	s.Skip()
	s.Refuse()
	s.Refuse()
	s.SetDuty(DutyOff)
	s.Show(Record{
		Serial: 1<<40 + 27, Started: time.Unix(0, 1<<40+28), Inode: 1<<40 + 29, Deadline: 1<<40 + 32, Client: overlong(30), Text: overlong(31),
	})
	for range 515 {
		must(t, b.Record(Event{
			Time: time.Unix(0, 1<<40+35), Kind: EventStop, PID: 4713, Slot: 2, Generation: 1<<40 + 36, Job: 1<<40 + 37, Done: 1<<40 + 38,
			Operator: &Operator{UID: 1<<31 + 39, PID: 4714}, Text: overlong(40),
		}))
	}
	file, err := os.ReadFile(b.path)
	must(t, err)
	if want := 4096 + 3*512 + 512*512; len(file) != want {
		t.Fatalf("%d bytes, want %d", len(file), want)
	}
	u64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	u32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	long := func(seed byte, size int) []byte { return []byte(overlong(seed)[:size]) }
	created := int64(binary.LittleEndian.Uint64(file[80:]))
	if created < before || created > after {
		t.Errorf("created at %d, want %d to %d", created, before, after)
	}
	compare := func(table string, have []byte, rows []row, want map[string][]byte) {
		rest := bytes.Clone(have)
		for _, r := range rows {
			got := have[r.Offset : r.Offset+r.Size]
			clear(rest[r.Offset : r.Offset+r.Size])
			if !bytes.Equal(got, want[r.Name]) {
				t.Errorf("%s, %s: % x at %d, want % x", table, r.Name, got, r.Offset, want[r.Name])
			}
		}
		if i := bytes.IndexFunc(rest, func(r rune) bool { return r != 0 }); i >= 0 {
			t.Errorf("%s: byte %d is in no row and yet set", table, i)
		}
	}
	compare("header", file[:4096], doc.Header, map[string][]byte{
		"magic": []byte("BROODSCB"), "version": u32(3), "header size": u32(4096), "slot size": u32(512), "slots": u32(3),
		"event size": u32(512), "events": u32(512), "used": u64(2),
		"pid": u64(4711), "start": u64(1<<40 + 2), "boot id": long(3, 40), "created": u64(uint64(created)),
		"updated": u64(1<<40 + 19), "generation": u64(1<<40 + 9), "rolling": u64(1<<40 + 10), "want": u64(1<<40 + 11),
		"born": u64(1<<40 + 12), "died": u64(1<<40 + 13), "killed": u64(1<<40 + 14), "lost": u64(1<<40 + 15),
		"done": u64(1<<40 + 16), "reload at": u64(1<<40 + 17), "reload ok": u64(1), "skipped": u64(1<<40 + 34), "state": long(8, 24),
		"refused": u64(1<<40 + 41),
		"reload":  long(18, 384), "trouble": long(33, 128), "name": long(1, 128), "program": long(4, 512), "listen": long(7, 512),
		"pid file": long(5, 256), "error log": long(6, 256), "attention": u64(1<<32 + 33),
	})
	compare("slot", file[4096+512:4096+1024], doc.Slot, map[string][]byte{
		"pid": u64(4712), "generation": u64(1<<40 + 20), "born": u64(1<<40 + 22), "phase": u64(4),
		"revoked": u64(1<<40 + 23), "kind": u64(1), "cause": long(21, 80), "state": u64('C'), "since": u64(1<<40 + 24),
		"serial": u64(1<<40 + 25), "done": u64(1<<40 + 42), "running": u64(1<<40 + 26), "skipped": u64(1), "refused": u64(2), "duty": u64(2), "sequence": u64(4),
		"job": u64(1<<40 + 27), "started": u64(1<<40 + 28), "inode": u64(1<<40 + 29), "limit": u64(1<<40 + 32),
		"client": long(30, 88), "text": long(31, 192),
	})
	last := file[4096+3*512+3*512 : 4096+3*512+4*512]
	compare("event", last, doc.Event, map[string][]byte{
		"sequence": u64(515), "sum": u64(crc64.Checksum(slices.Concat(last[:8], last[16:]), crc64.MakeTable(crc64.ECMA))),
		"time": u64(1<<40 + 35), "kind": u32(28), "slot": u32(3), "pid": u64(4713), "generation": u64(1<<40 + 36), "job": u64(1<<40 + 37),
		"done": u64(1<<40 + 38), "operator": u32(4714), "user": u32(1<<31 + 40), "text": long(40, 440),
	})
	if next := binary.LittleEndian.Uint64(file[4096+3*512+4*512:]); next != 4 {
		t.Errorf("behind event 515 lies %d, want 4", next)
	}
	for _, slot := range []int{0, 2} {
		if part := file[4096+slot*512 : 4096+(slot+1)*512]; !bytes.Equal(part, make([]byte, 512)) {
			t.Errorf("slot %d has been written to", slot)
		}
	}
}
