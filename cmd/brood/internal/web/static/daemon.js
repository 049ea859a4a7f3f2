// One daemon's part of the page. Whatever comes from a daemon becomes text, and nothing else.

import { Chart } from './chart.js';
import { Pool } from './pool.js';
import { age, clock, make, rows, say } from './text.js';

const known = 512; // events that are kept
const shown = 200; // of these, in the table

export class Daemon {
  constructor(el) {
    this.el = el;
    this.part = (name) => el.querySelector(name);
    this.pool = new Pool(this.part('.pool'), this.part('.detail'));
    this.chart = new Chart(this.part('.chart'));
    this.events = [];
    this.facts = [];
  }

  // take takes over what the server says is new.
  take(d, now) {
    if (d.full) {
      this.events = [];
      this.part('.events tbody').replaceChildren();
      this.pool.clear();
      this.chart.clear();
    }
    if (d.head) this.takeHead(d.head);
    this.pool.take(d);
    this.takeEvents(d.events ?? []);
    this.chart.take(d.samples ?? [], this.events);
    this.tick(now);
  }

  takeHead(h) {
    this.el.dataset.condition = h.condition;
    say(this.part('.state'), h.state);
    this.banner('.problem', h.problem, '');
    this.banner('.trouble', h.trouble, 'degraded: ');
    this.pool.serving(h.generation, h.rolling ?? 0);
    const facts = h.facts ?? [];
    const dds = rows(this.part('.facts'), facts.map((f) => f.name));
    this.facts = facts.map((f, i) => ({ ...f, dd: dds[i] }));
    for (const f of this.facts) if (!f.at) say(f.dd, f.text);
  }

  banner(name, text, before) {
    const p = this.part(name);
    p.hidden = !text;
    say(p, text ? before + text : ''); // it is read aloud when it changes
  }

  takeEvents(fresh) {
    const body = this.part('.events tbody');
    for (const e of fresh) {
      const last = this.events.at(-1)?.seq ?? e.seq - 1;
      if (e.seq > last + 1) body.prepend(make('tr', make('td'), make('td', '…'), make('td'), make('td', `${e.seq - last - 1} events are not known`)));
      const tr = make('tr', make('td', clock(e.t)), make('td', e.kind), make('td', who(e)), make('td', e.text ?? ''));
      tr.dataset.kind = e.kind;
      body.prepend(tr);
      this.events.push(e);
    }
    this.events.splice(0, this.events.length - known);
    while (body.rows.length > shown) body.lastChild.remove();
  }

  // tick lets time pass.
  tick(now) {
    for (const f of this.facts) {
      if (f.at) say(f.dd, f.text.replace('{age}', () => age(now - f.at)));
    }
    this.pool.tick(now, this.events);
    this.chart.draw(now);
  }
}

// who is the subject of an event, in words.
function who(e) {
  const parts = [];
  if (e.slot >= 0) parts.push(`slot ${e.slot}`);
  if (e.pid) parts.push(`pid ${e.pid}`);
  if (e.generation) parts.push(`generation ${e.generation}`);
  if (e.job) parts.push(`job ${e.job}`);
  if (e.operator) parts.push(e.operator);
  return parts.join(', ');
}
