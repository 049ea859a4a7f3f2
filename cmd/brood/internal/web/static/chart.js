// The last minutes: how many children did what, how many jobs were done, and when there was a reload.

import { clock, make } from './text.js';

const span = 300; // seconds, and the width of the picture
const layers = ['busy', 'other', 'starting', 'idle']; // from the bottom
const words = { busy: 'busy', other: 'draining or paused', starting: 'starting', idle: 'idle' };
const marks = ['reload', 'reloaded', 'reload-failed', 'upgraded', 'upgrade-failed'];

export class Chart {
  constructor(el) {
    this.values = {};
    const key = make('p', ...layers.map((l) => {
      this.values[l] = make('span', '0');
      const b = make('i');
      b.className = `key ${l}`;
      return make('span', b, ` ${words[l]} `, this.values[l]);
    }));
    key.className = 'keys';
    this.top = make('p');
    this.rateTop = make('p');
    const axis = make('p', make('span', '5 minutes ago'), make('span', 'now'));
    axis.className = 'axis';
    const svg = picture(100);
    this.svg = svg;
    this.paths = Object.fromEntries(layers.map((l) => [l, append(svg, 'path', { class: l })]));
    this.marks = append(svg, 'g', {});
    this.rate = picture(30);
    this.ratePath = append(this.rate, 'path', { class: 'rate' });
    this.news = make('p');
    this.news.className = 'marks';
    el.replaceChildren(key, this.top, svg, this.rateTop, this.rate, axis, this.news);
    this.clear();
  }

  clear() {
    this.samples = [];
    this.events = [];
  }

  take(samples, events) {
    this.samples.push(...samples);
    this.events = events;
  }

  draw(now) {
    const begin = now - span * 1000;
    while (this.samples.length > 1 && this.samples[1].t < begin) this.samples.shift();
    const last = this.samples.at(-1);
    if (!last) return;
    const x = (t) => Math.max(0, (t - begin) / 1000);
    const all = (s) => layers.reduce((n, l) => n + s[l], 0);
    const most = Math.max(4, ...this.samples.map(all));
    let under = () => 0;
    for (const l of layers) {
      const base = under;
      const top = (s) => base(s) + s[l];
      this.paths[l].setAttribute('d', area(this.samples, x, (s) => 100 - 100 * top(s) / most, (s) => 100 - 100 * base(s) / most));
      this.values[l].textContent = last[l];
      under = top;
    }
    const fastest = Math.max(1, ...this.samples.map((s) => s.rate));
    this.ratePath.setAttribute('d', area(this.samples, x, (s) => 30 - 30 * s.rate / fastest, () => 30));
    this.top.textContent = `${most} children`;
    this.rateTop.textContent = `${last.rate} jobs/s now, ${fastest} at the top`;
    const seen = this.events.filter((e) => marks.includes(e.kind) && e.t > begin);
    this.marks.replaceChildren();
    for (const e of seen) {
      const line = append(this.marks, 'line', { class: 'mark', 'data-kind': e.kind, x1: x(e.t), x2: x(e.t), y1: 0, y2: 100 });
      append(line, 'title', {}).textContent = `${clock(e.t)} ${e.kind}`;
    }
    const said = seen.slice(-6).map((e) => `${clock(e.t)} ${e.kind}`).join(' · ');
    this.news.textContent = said ? `Marks: ${said}` : 'No reload in this time.';
    this.svg.setAttribute('aria-label', `children in the last five minutes; now ${layers.map((l) => `${last[l]} ${words[l]}`).join(', ')}`);
    this.rate.setAttribute('aria-label', `jobs done in a second; now ${last.rate}`);
  }
}

// area is a path of steps from the first sample to now, closed along its lower edge.
function area(samples, x, upper, lower) {
  const up = [], down = [];
  samples.forEach((s, i) => {
    const [a, b] = [x(s.t), i + 1 < samples.length ? x(samples[i + 1].t) : span].map((v) => Math.min(v, span).toFixed(1));
    up.push(`${a} ${upper(s).toFixed(1)}`, `${b} ${upper(s).toFixed(1)}`);
    down.unshift(`${b} ${lower(s).toFixed(1)}`, `${a} ${lower(s).toFixed(1)}`);
  });
  return `M${[...up, ...down].join('L')}Z`;
}

function picture(height) {
  return append(null, 'svg', { viewBox: `0 0 ${span} ${height}`, preserveAspectRatio: 'none', role: 'img', class: `h${height}` });
}

function append(parent, name, attributes) {
  const el = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  parent?.append(el);
  return el;
}
