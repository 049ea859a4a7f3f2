package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

// walk calls f for every command.
func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		walk(c, f)
	}
}

// Every command says in a line what it does, in some sentences how, and gives examples, each of which is a right command line.
func TestEveryCommand(t *testing.T) {
	groups := map[string]bool{groupLook: true, groupSteer: true, groupDevelop: true, "": true}
	root := newRoot()
	root.InitDefaultHelpCmd()
	walk(root, func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		if cmd.Short == "" || strings.ContainsAny(cmd.Short, "\n") || strings.HasSuffix(cmd.Short, ".") || unicode.IsUpper([]rune(cmd.Short)[0]) {
			t.Errorf("%s: Short is %q: want a line that begins small and has no full stop", name, cmd.Short)
		}
		if cmd.Long == "" || !strings.HasSuffix(cmd.Long, ".") || !unicode.IsUpper([]rune(cmd.Long)[0]) {
			t.Errorf("%s: Long is %q: want sentences", name, cmd.Long)
		}
		if !groups[cmd.GroupID] || strings.Contains(cmd.Use, daemonArg) && cmd.HasParent() && cmd.GroupID == "" {
			t.Errorf("%s: its group is %q", name, cmd.GroupID)
		}
		if strings.Contains(cmd.Use, daemonArg) && cmd.HasParent() && cmd.ValidArgsFunction == nil {
			t.Errorf("%s: the name of a daemon is not completed", name)
		}
		if cmd.HasParent() && cmd.RunE == nil {
			t.Errorf("%s: no RunE: its errors would have the wrong status", name)
		}
		if !strings.Contains(cmd.Example, "brood") {
			t.Errorf("%s: no example", name)
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented by two", name, line)
			}
			checkExample(t, line)
		}
	})
}

// checkExample parses what a line of shell says to brood.
func checkExample(t *testing.T, line string) {
	for _, part := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("&|;<>()\n", r) }) {
		words := strings.Fields(part)
		if len(words) == 0 || words[0] != "brood" {
			continue
		}
		root := newRoot()
		root.InitDefaultHelpCmd()
		cmd, args, err := root.Find(negative(words[1:]))
		if err == nil {
			err = cmd.ParseFlags(args)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("the example %q: %v", strings.TrimSpace(line), err)
		}
	}
}

// There is a manual page of each command, and who formats it has nothing to complain about.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man", "man1")
	var errw bytes.Buffer
	if code := run([]string{"man", dir}, &errw, &errw); code != exitFine {
		t.Fatalf("exit status %d: %s", code, &errw)
	}
	groff, _ := exec.LookPath("groff")
	walk(newRoot(), func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		path := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		for _, want := range []string{".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH EXAMPLE\n", ".SH SEE ALSO\n"} {
			if !bytes.Contains(page, []byte(want)) {
				t.Errorf("%s has no %q", path, want)
			}
		}
		if groff == "" {
			return
		}
		if out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		shown, err := exec.Command(groff, "-man", "-Tascii", "-P-c", path).Output()
		if text := strings.Join(strings.Fields(string(shown)), " "); err != nil || !strings.Contains(text, cmd.CommandPath()) {
			t.Errorf("%s: %v\n%s", path, err, shown)
		}
	})
	if code := run([]string{"man"}, &errw, &errw); code != exitUsage {
		t.Errorf("without a directory: exit status %d", code)
	}
	if code := run([]string{"man", "/dev/null/x"}, &errw, &errw); code != exitFailed {
		t.Errorf("into no directory: exit status %d", code)
	}
}

// A number below zero is none of the flags that it looks like, in brood scale and nowhere else.
func TestNegative(t *testing.T) {
	for in, want := range map[string]string{
		"scale x -1":              "scale x −1",
		"scale -12 x --timeout 5": "scale −12 x --timeout 5",
		"scale x -n -":            "scale x -n -",
		"events x -n -1":          "events x -n -1",
		"dev . -1":                "dev . -1",
	} {
		if got := strings.Join(negative(strings.Fields(in)), " "); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if negative(nil) == nil {
		t.Error("no arguments are nil: the library would take those of the process")
	}
}
