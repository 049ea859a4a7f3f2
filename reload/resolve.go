package reload

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hint is a name in a directory at which an event may mean that a path now leads elsewhere, or leads somewhere
// again. dir is free of links.
type hint struct{ dir, name string }

// maxLinks is the kernel's own limit; see path_resolution(7).
const maxLinks = 40

// resolve follows an absolute path as the kernel would and returns the real path with a hint for every symbolic
// link on the way. If something is missing, the last hint is the place where it would be.
//
// filepath.EvalSymlinks gives the same path, but not the places to watch.
func resolve(path string) (real string, hints []hint, err error) {
	here, todo := "/", strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			here = filepath.Dir(here) // right because here has no links
			continue
		}
		next := filepath.Join(here, name)
		st, err := lstamp(next)
		if err != nil {
			return "", append(hints, missing(here, name, err)), err
		}
		if !st.link() {
			here = next
			continue
		}
		hints = append(hints, hint{here, name})
		if links++; links > maxLinks {
			return "", hints, &os.PathError{Op: "resolve", Path: path, Err: unix.ELOOP}
		}
		text, err := os.Readlink(next)
		if err != nil {
			return "", hints, err
		}
		if filepath.IsAbs(text) {
			here = "/"
		}
		todo = append(strings.Split(text, "/"), todo...)
	}
	return here, hints, nil
}

// missing is where to wait for a path that ends at name in dir.
func missing(dir, name string, err error) hint {
	if pe, ok := err.(*os.PathError); ok && pe.Err == unix.ENOTDIR {
		// dir is a file now; only its own directory can tell when that ends.
		return hint{filepath.Dir(dir), filepath.Base(dir)}
	}
	return hint{dir, name}
}
