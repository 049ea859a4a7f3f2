// The children: a tile for each, in groups of their generations, and what one of them does.

import { age, clock, make, rows, say } from './text.js';

const nobody = 'Point at a child, or choose one with Tab and the arrow keys, to see what it does.';

export class Pool {
  constructor(el, detail) {
    this.el = el;
    this.detail = detail;
    this.generation = this.rolling = 0;
    this.card = null; // what the detail consists of, while it is about a child
    this.forget(); // but not what the page came with, which is true until there is something newer
    // The pointer shows a child while it is there, a click keeps it, and so does the keyboard until it goes on.
    el.addEventListener('pointerover', (e) => this.kept || this.choose(tileOf(e)));
    el.addEventListener('focusin', (e) => { if (e.target.matches(':focus-visible')) this.choose(tileOf(e)); });
    el.addEventListener('click', (e) => {
      const tile = tileOf(e);
      if (!tile) return;
      const again = this.kept && this.chosen?.slot === tile.child.slot;
      this.choose(tile);
      this.keep(!again);
    });
    el.addEventListener('keydown', (e) => this.key(e));
  }

  forget() {
    this.tiles = new Map(); // by slot
    this.groups = new Map(); // by generation
    this.chosen = null; // a child, as it was last
    this.kept = false;
  }

  clear() {
    this.forget();
    this.el.replaceChildren();
  }

  serving(generation, rolling) {
    this.generation = generation;
    this.rolling = rolling;
  }

  take(d) {
    for (const slot of d.gone ?? []) {
      this.tiles.get(slot)?.remove();
      this.tiles.delete(slot);
    }
    for (const c of d.children ?? []) {
      let tile = this.tiles.get(c.slot);
      if (!tile) {
        tile = make('button');
        tile.type = 'button';
        tile.className = 'tile';
        tile.tabIndex = -1;
        this.tiles.set(c.slot, tile);
      }
      tile.child = c;
      tile.dataset.state = c.ended ? 'ended' : c.state;
      tile.dataset.kind = c.kind;
      tile.setAttribute('aria-label', `slot ${c.slot}, process ${c.pid}, generation ${c.generation}: ${c.ended ? 'has ended' : c.state}`);
      tile.replaceChildren(c.ended ? '×' : c.letter, make('small', c.slot));
    }
    this.arrange();
  }

  // arrange puts each tile into the group of its generation. What stays in its place is not touched, and keeps the focus.
  arrange() {
    const tiles = [...this.tiles.values()].sort((a, b) => a.child.slot - b.child.slot);
    const generations = [...new Set(tiles.map((t) => t.child.generation))].sort((a, b) => a - b);
    for (const [g, group] of this.groups) {
      if (!generations.includes(g)) {
        group.remove();
        this.groups.delete(g);
      }
    }
    this.el.querySelector('.none')?.remove();
    generations.forEach((g, i) => {
      let group = this.groups.get(g);
      if (!group) {
        group = make('section', make('h3'), make('div'));
        group.className = 'generation';
        group.lastChild.className = 'tiles';
        this.groups.set(g, group);
      }
      const role = this.role(g);
      group.dataset.role = role;
      group.firstChild.textContent = `generation ${g}: ${role}`;
      place(this.el, group, i);
      tiles.filter((t) => t.child.generation === g).forEach((t, j) => place(group.lastChild, t, j));
    });
    if (!tiles.length) {
      const none = make('p', 'none');
      none.className = 'none';
      this.el.append(none);
    }
    if (tiles.length && !tiles.some((t) => t.tabIndex === 0)) tiles[0].tabIndex = 0;
  }

  role(g) {
    if (g === this.rolling) return g === this.generation ? 'on probation' : 'coming';
    return g === this.generation ? 'serving' : 'old';
  }

  key(e) {
    const tiles = [...this.el.querySelectorAll('.tile')];
    const at = tiles.indexOf(tileOf(e));
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: tiles.length - 1 }[e.key];
    if (e.key === 'Escape') {
      this.keep(false);
      this.choose(null);
    } else if (to !== undefined && at >= 0) {
      e.preventDefault();
      const tile = tiles[Math.min(Math.max(to, 0), tiles.length - 1)];
      for (const t of tiles) t.tabIndex = t === tile ? 0 : -1;
      this.keep(false);
      tile.focus();
    }
  }

  keep(yes) {
    this.kept = yes;
    for (const t of this.tiles.values()) t.classList.toggle('kept', yes && t.child.slot === this.chosen?.slot);
  }

  choose(tile) {
    if (tile === undefined) return;
    this.chosen = tile && tile.child;
    this.tick(this.now, this.events);
  }

  // tick shows the chosen child as it is now.
  tick(now, events) {
    this.now = now;
    this.events = events;
    if (!this.chosen) {
      if (this.card) this.detail.replaceChildren(make('p', nobody));
      this.card = null;
      return;
    }
    const there = this.tiles.get(this.chosen.slot)?.child;
    const here = there?.pid === this.chosen.pid && there.born === this.chosen.born;
    if (here) this.chosen = there;
    const c = this.chosen;
    if (!this.card) {
      this.card = { h3: make('h3'), dl: make('dl'), ol: make('ol') };
      this.detail.replaceChildren(this.card.h3, this.card.dl, this.card.ol);
    }
    const { h3, dl, ol } = this.card;
    say(h3, `Child ${c.pid || '(no process yet)'}, slot ${c.slot}, generation ${c.generation}`);
    const said = here ? describe(c, now) : [['state', 'it has ended']];
    rows(dl, said.map(([k]) => k)).forEach((dd, i) => say(dd, said[i][1]));
    const own = events.filter((e) => e.slot >= 0 && e.pid === c.pid && e.t >= c.born - 1000).slice(-8)
      .map((e) => `${clock(e.t)} ${e.kind}${e.text ? `: ${e.text}` : ''}`);
    while (ol.children.length > own.length) ol.lastChild.remove();
    own.forEach((text, i) => say(ol.children[i] ?? ol.appendChild(make('li')), text));
  }
}

// describe is what there is to say of a child.
function describe(c, now) {
  const said = [['state', `${c.ended ? 'its process has ended; the board says: ' : ''}${c.letter} ${c.state}, for ${age(now - c.since)}`]];
  if (c.torn) said.push(['job', 'unknown: stopped while writing']);
  if (c.job) {
    said.push(['job', `${c.job}, for ${age(now - c.started)}${c.running > 1 ? `, and ${c.running - 1} more` : ''}`]);
    said.push(['what', c.text || '-'], ['client', c.client || '-']);
    if (c.deadline) said.push(['time left', c.deadline > now ? age(c.deadline - now) : 'it is over']);
    if (c.revoked) said.push(['revoked', `job ${c.revoked}`]);
  }
  said.push(['kind', c.kind], ['done', c.done], ['born', `${age(now - c.born)} ago: ${c.cause}`]);
  if (c.memory) said.push(['memory', `${c.memory} MiB resident`]);
  return said;
}

// tileOf finds the tile that an event is about. Those that the page came with are only a picture.
function tileOf(e) {
  const tile = e.target.closest('.tile');
  return tile?.child ? tile : undefined;
}

// place makes el the child of parent at an index.
function place(parent, el, i) {
  if (parent.children[i] !== el) parent.insertBefore(el, parent.children[i] ?? null);
}
