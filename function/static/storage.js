// What the browser keeps for the page. Where it may not, as with cookies forbidden, things last as long as the page.

const forbidden = new Map();

/** The text under a name in `area`, localStorage or sessionStorage; null where there is none. */
export function kept(area, name) {
  try {
    return globalThis[area].getItem(name);
  } catch {
    return forbidden.get(name) ?? null;
  }
}

export function keep(area, name, text) {
  try {
    globalThis[area].setItem(name, text);
  } catch {
    forbidden.set(name, String(text));
  }
}
