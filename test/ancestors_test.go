package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	ancestorRow    = regexp.MustCompile(`(?m)^\| (.+) \| (.+) \| (.*)\|$`)
	ancestorTest   = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	ancestorScript = regexp.MustCompile("`([a-z0-9_]+\\.txtar)`")
	ancestorField  = regexp.MustCompile("`((?:[A-Z][A-Za-z]+\\.)?[A-Z][A-Za-z]+)`")
	declaredTest   = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// Each row about an ancestor names a test that exists, or says that it is left out, and what it is called here exists, too.
func TestAncestors(t *testing.T) {
	leaveToPlain(t)
	text, err := os.ReadFile("../docs/ANCESTORS.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declaredTest.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	api, err := exec.Command("go", "doc", "-all", module+"/daemon").Output()
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, row := range ancestorRow.FindAllStringSubmatch(string(text), -1) {
		there, here, shown := row[1], row[2], row[3]
		if there == "there" || strings.HasPrefix(there, "--") {
			continue
		}
		rows++
		named := ancestorTest.FindAllStringSubmatch(shown, -1)
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", there, m[1])
			}
		}
		scripts := ancestorScript.FindAllStringSubmatch(shown, -1)
		for _, m := range scripts {
			if _, err := os.Stat(filepath.Join("scripts", m[1])); err != nil {
				t.Errorf("%s: %v", there, err)
			}
		}
		if len(named)+len(scripts) == 0 && !strings.HasPrefix(here, "left out: ") {
			t.Errorf("%s: neither a test nor left out", there)
		}
		for _, m := range ancestorField.FindAllStringSubmatch(here, -1) {
			_, name, found := strings.Cut(m[1], ".")
			if !found {
				name = m[1]
			}
			if !regexp.MustCompile(`\b` + name + `\b`).Match(api) {
				t.Errorf("%s: package daemon has no %s", there, m[1])
			}
		}
	}
	if rows < 80 {
		t.Errorf("%d rows: the table is not understood", rows)
	}
}
