package daemon

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md anew: go test ./daemon -run TestConfigTable -update")

// The page on settings is what the flags say of themselves. What stands before its table is written by hand.
func TestConfigTable(t *testing.T) {
	const page = "../docs/CONFIG.md"
	const head = "| key | | flag | environment | default | changes with | |\n|---|---|---|---|---|---|---|\n"
	is, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text, _, found := strings.Cut(string(is), head)
	if !found {
		t.Fatalf("%s has no table that begins with\n%s", page, head)
	}
	want := text + head + configTable(t)
	if want == string(is) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the flags say: go test ./daemon -run TestConfigTable -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// configTable has a row for each setting, with the default of a daemon NAME that root starts.
func configTable(t *testing.T) string {
	cfg := enough()
	cfg.Name, cfg.RunDir = "NAME", "/run/NAME"
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	s := settingsOf(&cfg)
	var table strings.Builder
	for _, x := range s.fields {
		f := s.fs.Lookup(x.name)
		kind, usage := flag.UnquoteUsage(f)
		if kind == "string" {
			kind = "word"
		}
		name, def, change := "`"+key(x.name)+"`", "", map[effect]string{live: "reload", upgrades: "upgrade", restarts: "restart"}[effectOf(x.name)]
		if x.name == configFlag {
			name = ""
		}
		if f.DefValue != "" {
			def = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&table, "| %s | %s | `-%s` | `%s` | %s | %s | %s |\n", name, kind, x.name, variable(x.name), def, change, strings.ReplaceAll(usage, "|", `\|`))
	}
	return table.String()
}
