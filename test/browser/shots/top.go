package main

import (
	"context"
	"fmt"
	"time"

	"github.com/brooddaemon/brood/test/browser"
)

// top takes the picture of brood top while children of the old generation finish what they have begun.
func top(site *browser.Site, p *browser.Page, dir string) error {
	d, err := site.Serve("jobs", "-prefork", "8", "-soak", "1s")
	if err != nil {
		return err
	}
	ask := func(jobs ...string) error {
		for _, j := range jobs {
			if _, err := d.Ask("/job?seconds=100&kind=" + j); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask("sleep&id=a", "sleep&id=b", "shell&id=c"); err != nil {
		return err
	}
	t, err := site.Terminal(site.Command("brood", "top", d.Run), 120, 27)
	if err != nil {
		return err
	}
	if _, err := t.Await(`3 working`); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go d.Load(ctx, 40*time.Millisecond)
	if out, err := site.Command("brood", "reload", d.Run).CombinedOutput(); err != nil {
		return fmt.Errorf("brood reload: %w\n%s", err, out)
	}
	if err := ask("sleep&id=d", "sleep&id=e"); err != nil {
		return err
	}
	if _, err := t.Await(`(?s)generation 2: .*3 draining.*[1-9]\d\.\d jobs/s.* W working.* W working.* reloaded`); err != nil {
		return err
	}
	if err := p.Show(t.Screen); err != nil {
		return err
	}
	return keep(p, dir, "top")
}
