package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

var (
	site *Site
	view *Page
)

func TestMain(m *testing.M) {
	m.Run()
	if view != nil {
		view.Close()
	}
	if site != nil {
		site.Close()
	}
}

// must ends a test that cannot go on.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a page in the browser, which is started when it is first wanted, as well as the programs are built.
func open(t *testing.T, url func() string) *Page {
	t.Helper()
	if view == nil {
		var err error
		if view, err = OpenPage(context.Background(), "about:blank"); errors.Is(err, ErrNoBrowser) {
			t.Skip(err)
		}
		must(t, err)
	}
	if site == nil {
		var err error
		site, err = OpenSite("../..")
		must(t, err)
	}
	must(t, view.Look(1000, 900, false))
	must(t, view.Open(url()))
	must(t, view.Await(`document.body.dataset.link === 'live'`))
	return view
}

// silent fails if the browser has complained.
func silent(t *testing.T, p *Page) {
	t.Helper()
	for _, c := range p.Complaints() {
		t.Errorf("the browser complains: %s", c)
	}
}

// readable fails if something cannot be read well, in light or in dark, in a wide or in a narrow window.
func readable(t *testing.T, p *Page) {
	t.Helper()
	for _, width := range []int64{400, 1000} {
		backgrounds := map[string]bool{}
		for _, dark := range []bool{false, true} {
			must(t, p.Look(width, 900, dark))
			bad, err := p.Contrast()
			must(t, err)
			for _, b := range bad {
				t.Errorf("dark: %v, contrast %s", dark, b)
			}
			background, err := Eval[string](p, `getComputedStyle(document.body).backgroundColor`)
			must(t, err)
			backgrounds[background] = true
		}
		if len(backgrounds) != 2 {
			t.Errorf("the page is the same, light or dark: %v", backgrounds)
		}
		wide, err := Eval[string](p, `[document.scrollingElement, ...document.querySelectorAll('body *')]
			.filter((el) => el.scrollWidth > Math.max(el.clientWidth, innerWidth) || el.getBoundingClientRect().right > innerWidth + 0.5)
			.filter((el) => el === document.scrollingElement || !el.closest('svg')).map((el) => el.tagName + '.' + el.className + ' ' + el.scrollWidth).join('\n')`)
		must(t, err)
		if wide != "" {
			t.Errorf("at %d pixels these are too wide:\n%s", width, wide)
		}
	}
}

const tiles = `document.querySelectorAll('.pool .tile').length`

// A daemon's children, its jobs and its roll-over can be watched.
func TestRollOver(t *testing.T) {
	var d *Daemon
	p := open(t, func() string {
		var err error
		d, err = site.Serve("jobs", "-prefork", "6", "-soak", "1s")
		must(t, err)
		w, err := site.Web("127.0.0.1:0", "jobs="+d.Run)
		must(t, err)
		return w.URL
	})
	must(t, p.Await(tiles+" === 6", `document.querySelectorAll('.pool .tile[data-state="idle"]').length === 6`,
		`document.querySelector('.state').textContent === 'serving'`))
	// Two jobs: their children are seen to work, and a click tells at what.
	for i := range 2 {
		_, err := d.Ask(fmt.Sprintf("/job?seconds=60&kind=sleep&id=j%d", i))
		must(t, err)
	}
	must(t, p.Await(`document.querySelectorAll('.pool .tile[data-state="working"]').length === 2`,
		`document.querySelector('.pool .tile[data-state="working"]').textContent.startsWith('W')`))
	must(t, p.Click(`.pool .tile[data-state="working"]`))
	must(t, p.Await(`document.querySelector('.detail').innerText.includes('GET /job')`, `document.querySelector('.pool .kept')`,
		`/ready/.test(document.querySelector('.detail ol').innerText)`))
	// The keyboard does the same.
	must(t, p.Press(kb.Escape))
	must(t, p.Await(`document.querySelector('.detail').innerText.startsWith('Point at')`))
	must(t, p.Press(kb.Home, kb.ArrowRight, kb.ArrowRight))
	must(t, p.Await(`document.activeElement.matches('.pool .tile')`, `document.activeElement.child.slot === 2`,
		`/slot 2, generation 1/.test(document.querySelector('.detail h3').textContent)`))
	// The roll-over: both generations side by side, then the old one holds only what works, and the chart has its marks.
	reload := site.Command("brood", "reload", d.Run)
	must(t, reload.Start())
	must(t, p.Await(`(() => { const [a, b] = [...document.querySelectorAll('.generation')].map((g) => g.getBoundingClientRect());
		return b && a.top === b.top && a.right <= b.left })()`, `document.querySelector('.generation[data-role="coming"], .generation[data-role="on probation"]')`))
	must(t, p.Await(`document.querySelectorAll('.mark[data-kind="reload"]').length === 1`))
	must(t, reload.Wait())
	must(t, p.Await(`document.querySelectorAll('.mark[data-kind="reloaded"]').length === 1`,
		`document.querySelector('.generation[data-role="old"]').querySelectorAll('.tile').length === 2`,
		`document.querySelector('.generation[data-role="serving"]').querySelectorAll('.tile').length === 6`,
		`document.querySelector('.events tbody tr[data-kind="reloaded"]')`, `/last reload\s+done/.test(document.querySelector('.facts').innerText)`))
	// The chart moves with the jobs that are done.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go d.Load(ctx, 20*time.Millisecond)
	must(t, p.Await(`/[1-9][\d.]* jobs\/s now/.test(document.querySelector('.chart').innerText)`))
	stop()
	readable(t, p)
	silent(t, p)
}

// A parent that is stopped, one that is dead and a server that has gone away are told, and not covered up.
func TestTrouble(t *testing.T) {
	var d *Daemon
	var w *Web
	p := open(t, func() string {
		var err error
		d, err = site.Serve("jobs")
		must(t, err)
		w, err = site.Web("127.0.0.1:0", "jobs="+d.Run, "other="+site.Dir+"/none")
		must(t, err)
		return w.URL
	})
	banner := func(daemon, words string) string {
		return fmt.Sprintf(`document.querySelector('[data-name=%q] .problem').checkVisibility() && document.querySelector('[data-name=%q] .problem').innerText.includes(%q)`, daemon, daemon, words)
	}
	must(t, p.Await(banner("other", "Not running"), `!document.querySelector('[data-name="jobs"] .problem').checkVisibility()`))
	must(t, syscall.Kill(d.PID, syscall.SIGSTOP))
	must(t, p.Await(banner("jobs", "is stopped")))
	must(t, syscall.Kill(d.PID, syscall.SIGCONT))
	must(t, p.Await(`!document.querySelector('[data-name="jobs"] .problem').checkVisibility()`))
	must(t, syscall.Kill(d.PID, syscall.SIGKILL))
	d.cmd.Wait()
	must(t, p.Await(banner("jobs", "is dead")))
	readable(t, p)
	silent(t, p)

	// A server that says nothing any more is noticed from its silence, one that has gone at once.
	lost := []string{`document.body.dataset.link === 'lost'`, `document.getElementById('link').innerText.startsWith('Not connected')`}
	must(t, w.cmd.Process.Signal(syscall.SIGSTOP))
	must(t, p.Await(lost...))
	must(t, w.cmd.Process.Signal(syscall.SIGCONT))
	must(t, p.Await(`document.body.dataset.link === 'live'`))
	must(t, w.End())
	begun := time.Now()
	must(t, p.Await(lost...))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the end of the connection was noticed after %s", took)
	}
	readable(t, p)
	address, err := url.Parse(w.URL)
	must(t, err)
	again, err := site.Web(address.Host, "jobs="+d.Run, "other="+site.Dir+"/none")
	must(t, err)
	must(t, p.Await(`document.body.dataset.link === 'live'`, banner("jobs", "is dead")))
	for _, c := range p.Complaints() { // these are about the time in between
		if !strings.Contains(c, "net::ERR_") {
			t.Errorf("the browser complains: %s", c)
		}
	}
	must(t, again.End())
}

// Whatever a client calls his job, it is a text on the page.
func TestHostileText(t *testing.T) {
	const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	texts := []string{markup, "\x1b[2Jclear", "\u202egnp.exe", "y\u2028\u0085z", strings.Repeat("W", 5000), "{{.}}${alert(1)}{age}"}
	var d *Daemon
	p := open(t, func() string {
		var err error
		d, err = site.Serve("hostile", "-prefork", fmt.Sprint(len(texts)+1), "-client-timeout", "60s")
		must(t, err)
		for _, text := range texts {
			_, err := d.Ask("/" + url.PathEscape(text))
			must(t, err)
		}
		leave, err := d.Ask("/" + url.PathEscape(markup)) // and one who becomes an event
		must(t, err)
		must(t, Eventually(func() error {
			out, err := site.Command("brood", "conns", d.Run).Output()
			if n := strings.Count(string(out), "<img"); err == nil && n < 2 {
				err = fmt.Errorf("%d of 2 jobs: %s", n, out)
			}
			return err
		}))
		leave()
		w, err := site.Web("127.0.0.1:0", "hostile="+d.Run)
		must(t, err)
		return w.URL
	})
	must(t, p.Await(fmt.Sprintf(`document.querySelectorAll('.pool .tile[data-state="working"]').length === %d`, len(texts)),
		`[...document.querySelectorAll('.events td')].some((td) => td.innerText.includes('<img src=x'))`))
	var seen strings.Builder
	n, err := Eval[int](p, tiles)
	must(t, err)
	must(t, p.Press(kb.Tab, kb.Tab, kb.Home))
	for range n {
		must(t, p.Await(`document.activeElement.matches('.pool .tile')`))
		text, err := Eval[string](p, `document.querySelector('.detail').textContent`)
		must(t, err)
		seen.WriteString(text)
		must(t, p.Press(kb.ArrowRight))
	}
	for _, want := range []string{markup, `\x1b[2Jclear`, `\u202egnp.exe`, `y\u2028\u0085z`, strings.Repeat("W", 180), "${alert(1)}{age}"} {
		if !strings.Contains(seen.String(), want) {
			t.Errorf("%q is not shown", want)
		}
	}
	if strings.ContainsAny(seen.String(), "\x1b\u202e\u2028\u0085") {
		t.Errorf("%q", seen.String())
	}
	made, err := Eval[int](p, `document.querySelectorAll('img, body script, main [style], iframe').length`)
	must(t, err)
	title, err := Eval[string](p, `document.title`)
	must(t, err)
	if made != 0 || title != "hostile" {
		t.Errorf("%d elements were made of texts, and the title is %q", made, title)
	}
	// The longest one, without a blank at which it could be broken, is shown while it is looked whether all fits.
	_, err = Eval[bool](p, `[...document.querySelectorAll('.pool .tile')].find((t) => t.child.text?.includes('WWWW')).click(), true`)
	must(t, err)
	must(t, p.Await(`document.querySelector('.detail').innerText.includes('WWWW')`))
	readable(t, p)
	silent(t, p)
}
