package main

import (
	"context"
	"fmt"
	"time"

	"github.com/brooddaemon/brood/test/browser"
)

// web takes the pictures of brood web, before, while and after one generation replaces another.
func web(site *browser.Site, p *browser.Page, dir string) error {
	d, err := site.Serve("jobs", "-prefork", "12", "-soak", "6s")
	if err != nil {
		return err
	}
	w, err := site.Web("127.0.0.1:0", "jobs="+d.Run)
	if err != nil {
		return err
	}
	if err := p.Open(w.URL); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go d.Load(ctx, 15*time.Millisecond)
	// Something for the chart to show: jobs that come and go for half a minute.
	for i := range 15 {
		if _, err := d.Ask(fmt.Sprintf("/job?seconds=%d&kind=sleep&id=j%d", 2+7*i%20, i)); err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond)
	}
	for i := range 4 {
		if _, err := d.Ask(fmt.Sprintf("/job?seconds=100&kind=sleep&id=k%d", i)); err != nil {
			return err
		}
	}
	if err := p.Await(`document.querySelectorAll('.pool .tile[data-state="working"]').length >= 4`); err != nil {
		return err
	}
	reload := site.Command("brood", "reload", d.Run)
	if err := reload.Start(); err != nil {
		return err
	}
	if err := p.Await(`document.querySelectorAll('.generation').length === 2`, `document.querySelector('.mark')`); err != nil {
		return err
	}
	if err := p.Click(`.pool .tile[data-state="working"]`); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // for the chart
	if err := shootWeb(p, dir, "web-rollover", 1000, 1000, false); err != nil {
		return err
	}
	if err := reload.Wait(); err != nil {
		return err
	}
	if err := p.Await(`document.querySelector('.mark[data-kind="reloaded"]')`); err != nil {
		return err
	}
	for i := range 5 {
		if _, err := d.Ask(fmt.Sprintf("/job?seconds=100&kind=sleep&id=n%d", i)); err != nil {
			return err
		}
	}
	time.Sleep(8 * time.Second)
	for _, s := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"web-light", 1000, 1000, false}, {"web-dark", 1000, 1000, true}, {"web-narrow", 400, 1100, false}} {
		if err := shootWeb(p, dir, s.name, s.width, s.height, s.dark); err != nil {
			return err
		}
	}
	return nil
}

func shootWeb(p *browser.Page, dir, name string, width, height int64, dark bool) error {
	if err := p.Look(width, height, dark); err != nil {
		return err
	}
	return keep(p, dir, name)
}
