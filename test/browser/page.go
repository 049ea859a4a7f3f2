package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A Page is a tab of a browser.
type Page struct {
	ctx   context.Context
	close func()

	mu         sync.Mutex
	complaints []string
}

// OpenPage starts a browser and opens a page in it.
func OpenPage(ctx context.Context, url string) (*Page, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrNoBrowser
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Headless, chromedp.WindowSize(1000, 900))
	alloc, cancel := chromedp.NewExecAllocator(ctx, opts...)
	tab, end := chromedp.NewContext(alloc)
	p := &Page{ctx: tab, close: func() { end(); cancel() }}
	err = chromedp.Listen(tab, p.hear)
	if err == nil {
		_, err = chromedp.Call(tab, log.Enable, cdp.Empty{})
	}
	if err == nil {
		err = p.do(chromedp.Navigate(url))
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// Close ends the browser.
func (p *Page) Close() { p.close() }

// hear keeps what the browser complains about: scripts that fail, what they write to the console as an error or a warning, files
// that cannot be loaded, and what the page's policy forbids.
func (p *Page) hear(ev any) {
	said := ""
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		said = fmt.Sprintf("exception: %s %+v", ev.ExceptionDetails.Text, ev.ExceptionDetails.Exception)
	case *runtime.EventConsoleAPICalled:
		said = fmt.Sprintf("console: %s", ev.Type)
	case *log.EventEntryAdded:
		if ev.Entry.Level != log.EntryLevelVerbose && ev.Entry.Level != log.EntryLevelInfo {
			said = fmt.Sprintf("%s: %s %s", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		said = "dialog: " + ev.Message
	}
	if said != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.complaints = append(p.complaints, said)
	}
}

// Complaints returns what the browser has complained about since the last call.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.complaints
	p.complaints = nil
	return all
}

func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) error { return chromedp.Do(p.ctx, steps...) }

// Open goes to another address.
func (p *Page) Open(url string) error { return p.do(chromedp.Navigate(url)) }

// Look sets the size of the window, in pixels, and whether dark colours are preferred.
func (p *Page) Look(width, height int64, dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	if err := p.do(chromedp.EmulateViewport(width, height)); err != nil {
		return err
	}
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	return err
}

// Eval evaluates an expression.
func Eval[T any](p *Page, expression string) (T, error) {
	return chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
}

// Await waits until all these expressions are true.
func (p *Page) Await(expressions ...string) error {
	return Eventually(func() error {
		for _, e := range expressions {
			ok, err := Eval[bool](p, "Boolean("+e+")")
			if err != nil {
				return fmt.Errorf("%s: %w", e, err)
			}
			if !ok {
				text, _ := Eval[string](p, "document.body.innerText")
				return fmt.Errorf("not true: %s\n%s", e, text)
			}
		}
		return nil
	})
}

// Press presses keys, one after the other: Tab, ArrowRight, …, as kb names them.
func (p *Page) Press(keys ...string) error {
	for _, k := range keys {
		if err := p.do(chromedp.KeyEvent(k)); err != nil {
			return err
		}
	}
	return nil
}

// Click clicks on the first element that a selector finds.
func (p *Page) Click(selector string) error { return p.do(chromedp.Click(chromedp.CSS(selector))) }

// Picture returns what the window shows, as PNG.
func (p *Page) Picture() ([]byte, error) { return chromedp.Run(p.ctx, chromedp.CaptureScreenshot()) }

// Show shows a screen, and nothing else, in a window of its size.
func (p *Page) Show(s *Screen) error {
	element, err := json.Marshal(s.HTML())
	if err != nil {
		return err
	}
	size, err := Eval[[]float64](p, `(() => {
		document.body.style.margin = 0;
		document.body.innerHTML = `+string(element)+`;
		const size = document.body.firstChild.getBoundingClientRect();
		return [Math.ceil(size.width), Math.ceil(size.height)];
	})()`)
	if err != nil {
		return err
	}
	return p.Look(int64(size[0]), int64(size[1]), true)
}

// Contrast returns the texts whose contrast with what is behind them is less than 4.5 to 1, with their colours.
func (p *Page) Contrast() ([]string, error) {
	all, err := Eval[string](p, contrast)
	if all == "" {
		return nil, err
	}
	return strings.Split(all, "\n"), err
}

// contrast computes what WCAG 2 calls so. An element without a background of its own has that of its parent.
const contrast = `(() => {
  const parts = (c) => c.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (el) => {
    for (; el; el = el.parentElement) {
      const c = parts(getComputedStyle(el).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
      if (c[3] > 0) return [0, 0, 0].map(() => NaN);
    }
    return [NaN];
  };
  const bad = [];
  let seen = 0;
  for (const el of document.querySelectorAll('body, body *')) {
    if (!el.checkVisibility() || ![...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    seen++;
    const [a, b] = [light(parts(getComputedStyle(el).color)), light(behind(el))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (!(ratio >= 4.5)) bad.push(ratio.toFixed(2) + ' ' + getComputedStyle(el).color + ' on ' + behind(el) + ': ' + el.textContent.slice(0, 40));
  }
  if (seen < 20) bad.push('only ' + seen + ' texts');
  return [...new Set(bad)].join('\n');
})()`
