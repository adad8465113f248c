// The list of places to fill: what a person takes along. A tap shows the place on the picture; a tick keeps it as filled,
// in this browser, for that picture.

import { listAsText, placesToFill } from "./refill.js";
import { keep, kept } from "./storage.js";
import { describePlace, describePlaces, describeSurety, formatDayAndTime, formatNumber, say } from "./words.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
const TICKS = "ticks"; // in localStorage
const KEPT = 60; // pictures, a few weeks of walks

/** `onShow(place)` hears of a tap on a place, `onTick()` of one that was ticked off or no longer is. */
export function createList({ onShow, onTick }) {
  const shown = { item: null, answer: null, places: [], filled: new Set() };

  /** The lines are written anew only for another answer, so that a focused one stays focused. */
  function render(item) {
    if (item === shown.item && item.answer === shown.answer) return;
    Object.assign(shown, { item, answer: item.answer, places: placesToFill(item.answer), filled: readTicks(pictureKey(item.file)) });
    element("refill-title").textContent = describePlaces(shown.places, item.answer);
    element("print-title").textContent = title();
    element("facing-hint").hidden = element("share").hidden = shown.places.length === 0;
    element("places").replaceChildren(...shown.places.map(line));
    element("shared").textContent = "";
    renderProgress();
  }

  function line(place) {
    const item = make("li", {});
    const told = { place: describePlace(place), facings: say("facings", { count: place.facings }) };
    const tick = make("input", { type: "checkbox", checked: shown.filled.has(place.id), ariaLabel: say("tick", told) });
    tick.addEventListener("change", () => {
      shown.filled[tick.checked ? "add" : "delete"](place.id);
      item.classList.toggle("filled", tick.checked);
      writeTicks(pictureKey(shown.item.file), shown.filled);
      renderProgress();
      onTick();
    });
    const label = make("label", { className: "tick" });
    label.append(tick);
    const show = make("button", { type: "button", className: "place" });
    show.ariaLabel = say("showPlace", { number: place.number, ...told });
    const words = make("span", { textContent: told.place });
    words.append(make("small", { textContent: describeSurety(place) }));
    show.append(make("b", { textContent: formatNumber(place.number) }), words, make("em", { textContent: told.facings }));
    show.addEventListener("click", () => onShow(place));
    item.classList.toggle("filled", tick.checked);
    item.append(label, show);
    return item;
  }

  function renderProgress() {
    const done = shown.places.filter(({ id }) => shown.filled.has(id)).length;
    element("progress").textContent = done > 0 ? say("filled", { done, count: shown.places.length }) : "";
  }

  /** With the day: the list is read later, and by others. */
  function title() {
    return `${shown.item.name}, ${formatDayAndTime(shown.item.file.lastModified)}`;
  }

  /** By the system's own sheet where there is one, else through the clipboard. */
  async function share() {
    const text = listAsText(title(), shown.places, shown.filled);
    try {
      if (navigator.share) await navigator.share({ title: say("refillList"), text });
      else {
        await navigator.clipboard.writeText(text);
        element("shared").textContent = say("copied");
      }
    } catch (error) {
      if (error.name !== "AbortError") element("shared").textContent = say("notShared"); // aborted: the person's wish
    }
  }

  element("share").addEventListener("click", share);
  return { render, places: () => shown.places, filled: () => shown.filled };
}

/** A picture is known by its name, size and time; the service is never told. */
function pictureKey({ name, size, lastModified }) {
  return `${name} ${size} ${lastModified}`;
}

/** The ids that are ticked off on a picture. */
function readTicks(key) {
  return new Set(read().find(([known]) => known === key)?.[1] ?? []);
}

/** The picture that was touched last is kept longest. */
function writeTicks(key, ids) {
  const others = read().filter(([known]) => known !== key);
  const entries = ids.size > 0 ? [[key, [...ids]], ...others] : others;
  keep("localStorage", TICKS, JSON.stringify(entries.slice(0, KEPT)));
}

function read() {
  try {
    const entries = JSON.parse(kept("localStorage", TICKS) ?? "[]");
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}
