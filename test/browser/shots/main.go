// Shots takes the pictures that are in docs/img, of the real programs at work: brood web and brood top, and the walk of the
// README as a recorded session.
//
//	go run ./shots DIR [web|top|session]
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/brooddaemon/brood/test/browser"
)

// root is the module whose programs are shown.
const root = "../.."

// A subject is what can be taken by itself.
type subject struct {
	name string
	take func(site *browser.Site, p *browser.Page, dir string) error
}

var subjects = []subject{{"web", web}, {"top", top}, {"session", session}}

func main() {
	args := os.Args[1:]
	if len(args) < 1 || len(args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: shots DIR [web|top|session]")
		os.Exit(2)
	}
	if err := shots(args[0], args[1:]...); err != nil {
		fmt.Fprintln(os.Stderr, "shots:", err)
		os.Exit(1)
	}
}

// shots takes the pictures of the subjects with these names, and of all if there is no name.
func shots(dir string, names ...string) error {
	p, err := browser.OpenPage(context.Background(), "about:blank")
	if err != nil {
		return err
	}
	defer p.Close()
	for _, s := range subjects {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if err := s.shoot(p, dir); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// shoot takes one among programs of its own, which end with it.
func (s subject) shoot(p *browser.Page, dir string) error {
	site, err := browser.OpenSite(root)
	if err != nil {
		return err
	}
	defer site.Close()
	if err := p.Open("about:blank"); err != nil { // what is there has a style of its own
		return err
	}
	return s.take(site, p, dir)
}

// keep writes what the window shows to a file.
func keep(p *browser.Page, dir, name string) error {
	b, err := p.Picture()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name+".png")
	fmt.Println(path, len(b), "bytes")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return err
	}
	// Fewer colours take less room.
	if tool, err := exec.LookPath("pngquant"); err == nil && len(b) > 100<<10 {
		return exec.Command(tool, "--force", "--ext", ".png", path).Run()
	}
	return nil
}
