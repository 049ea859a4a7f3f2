package main

import "testing"

func TestSourcesHold(t *testing.T) {
	s := sources{
		modules:  map[string]bool{"/m": true, "/w": true},
		packages: map[string][]string{"/m/a": {"*.txt", "all:page", "tree/*/leaf"}, "/m/b": nil},
	}
	for file, want := range map[string]bool{
		"/m/go.mod": true, "/w/go.work": true, "/m/a/go.mod": false, "/m/x.go": false,
		"/m/a/x.go": true, "/m/b/x.s": true, "/m/b/x.txt": false, "/m/a/x_test.go": false, "/m/a/_x.go": false, "/m/a/.x.go": false,
		"/m/a/c/x.go": false, "/m/ab/x.go": false, "/m/a/x.log": false,
		"/m/a/note.txt": true, "/m/a/page": true, "/m/a/page/.hidden": true, "/m/a/page/deep/x": true,
		// The directories on the way to what is embedded.
		"/m/a/tree": true, "/m/a/tree/x": true, "/m/a/tree/x/leaf": true, "/m/a/tree/x/other": false,
	} {
		if got := s.holds(file); got != want {
			t.Errorf("holds(%q) = %v, want %v", file, got, want)
		}
	}
}

func TestProgramName(t *testing.T) {
	for _, c := range []struct {
		path  string
		files []string
		want  string
	}{
		{"example.org/cmd/thing", nil, "thing"}, {"thing", nil, "thing"}, {"example.org/thing/v2", nil, "thing"},
		{"example.org/thing/v10", nil, "thing"}, {"example.org/thing/v1", nil, "v1"}, {"example.org/thing/v02", nil, "v02"},
		{"v2", nil, "v2"}, {"command-line-arguments", []string{"tool.go", "b.go"}, "tool"},
	} {
		if got := programName(goPackage{ImportPath: c.path, GoFiles: c.files}); got != c.want {
			t.Errorf("programName(%q) = %q, want %q", c.path, got, c.want)
		}
	}
}
