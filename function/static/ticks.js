// What a person has ticked off, kept in this browser for each picture.

const KEPT = 60; // pictures, a few weeks of walks
const NAME = "ticks";

/** A picture is known by its name, size and time; the service is never told. */
export function pictureKey({ name, size, lastModified }) {
  return `${name} ${size} ${lastModified}`;
}

/** The ids that are ticked off on a picture. */
export function readTicks(key) {
  return new Set(read().find(([known]) => known === key)?.[1] ?? []);
}

/** The picture that was touched last is kept longest. */
export function writeTicks(key, ids) {
  const others = read().filter(([known]) => known !== key);
  const entries = ids.size > 0 ? [[key, [...ids]], ...others] : others;
  try {
    localStorage.setItem(NAME, JSON.stringify(entries.slice(0, KEPT)));
  } catch { /* full, or forbidden in a private window: the ticks last as long as the page */ }
}

function read() {
  try {
    const entries = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}
