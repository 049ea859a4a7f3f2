// Small things that all parts of the page use.

// make makes an element of texts and other elements. A text stays one.
export function make(name, ...children) {
  const el = document.createElement(name);
  el.append(...children.map((c) => (c instanceof Node ? c : String(c))));
  return el;
}

// age shows milliseconds as page.go does: brood status is more exact about the first second, which a page shows too late.
export function age(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return `${s.toFixed(1)}s`;
  const whole = Math.round(s);
  const [h, m] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return `${h ? `${h}h` : ''}${m}m${whole % 60}s`;
}

// clock shows the time of day.
export function clock(ms) {
  const t = new Date(ms);
  return [t.getHours(), t.getMinutes(), t.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

// say puts a text into an element, unless it is there: what somebody has selected stays selected.
export function say(el, text) {
  if (el.textContent !== String(text)) el.textContent = text;
}

// rows makes a list of descriptions have these names, and returns where the descriptions go.
export function rows(dl, names) {
  const old = [...dl.querySelectorAll('dt')].map((dt) => dt.textContent);
  if (old.join('\n') !== names.join('\n')) dl.replaceChildren(...names.map((n) => make('div', make('dt', n), make('dd'))));
  return [...dl.querySelectorAll('dd')];
}
