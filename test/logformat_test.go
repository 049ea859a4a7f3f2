package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// With -log-format json every line of the error log is an object, the parent's and those that children print, whatever these print.
func TestLogJSON(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	d, err := s.serve(nil, "broken", "-prefork", "1", "-log-format", "json")
	if err != nil {
		t.Fatal(err)
	}
	const hostile = "a\"b\\c\x1b[2J\xff\u202e\u0085\t{\"level\":\"ERROR\"}\r\x00end"
	if _, err := get(d.addr + "/say?text=" + hostile); err != nil {
		t.Fatal(err)
	}
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Time, Level, Msg, Source, Stream string
		PID                              int
		Slot                             *int
		Generation                       uint64
	}
	if err := eventually(patience, func() error {
		log, err := os.ReadFile(d.log)
		if err != nil {
			return err
		}
		said := map[string]bool{}
		for raw := range bytes.Lines(log) {
			var l line
			if err := json.Unmarshal(raw, &l); err != nil || l.Time == "" || l.Level == "" {
				return failure{fmt.Errorf("%w: %q", err, raw)}
			}
			if bytes.ContainsFunc(bytes.TrimSuffix(raw, []byte("\n")), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e }) {
				return failure{fmt.Errorf("it moves a cursor: %q", raw)}
			}
			if l.Source == "child" {
				if l.PID != st.Children[0].PID || l.Slot == nil || *l.Slot != 0 || l.Generation != 1 {
					return failure{fmt.Errorf("whose? %q", raw)}
				}
				said[l.Stream+" "+l.Msg] = true
			}
		}
		const shown = "a\"b\\c\x1b[2J\ufffd\u202e\u0085\t{\"level\":\"ERROR\"}\r\x00end"
		if !said["stdout out "+shown] || !said["stderr err "+shown] {
			return fmt.Errorf("what the child has said is not there: %q", log)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
