// Keeps the page connected and gives each daemon's part what is new of it.

import { Daemon } from './daemon.js';
import { clock } from './text.js';

const silence = 12000; // ms without a word, of which the server says one every five seconds
const pause = 2000; // ms between two tries

const link = document.getElementById('link');
const daemons = new Map();
for (const el of document.querySelectorAll('.daemon')) daemons.set(el.dataset.name, new Daemon(el));

let source = null;
let again = 0; // the timer of the next try
let openedAt = 0;
let heardAt = 0;
let ahead = 0; // of this clock, the server's

const now = () => Date.now() + ahead;

function heard(serverTime) {
  heardAt = Date.now();
  ahead = serverTime - heardAt;
  document.body.dataset.link = 'live';
  link.textContent = 'live';
}

function lose() {
  hangUp();
  if (document.body.dataset.link !== 'lost') {
    document.body.dataset.link = 'lost';
    const since = heardAt ? clock(heardAt) : 'the beginning';
    link.textContent = `Not connected since ${since}: what is shown is as old as that. Trying again.`;
  }
  again = setTimeout(connect, pause);
}

function hangUp() {
  source?.close();
  source = null;
  clearTimeout(again);
}

function connect() {
  hangUp();
  const s = source = new EventSource(document.body.dataset.stream);
  openedAt = Date.now();
  s.onmessage = (e) => {
    const m = JSON.parse(e.data);
    heard(m.now);
    for (const d of m.daemons) daemons.get(d.name)?.take(d, now());
  };
  s.addEventListener('beat', (e) => heard(Number(e.data)));
  s.onerror = () => { if (s === source) lose(); };
}

// A page that nobody sees needs no connection, of which browsers have few for one server.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return connect();
  hangUp();
  document.body.dataset.link = 'resting';
  link.textContent = 'resting while hidden';
});

setInterval(() => {
  if (source && Date.now() - Math.max(heardAt, openedAt) > silence) lose();
  for (const d of daemons.values()) d.tick(now());
}, 1000);

connect();
