// The list of places to fill: what a person takes along. A tap shows the place on the picture, a tick keeps it as filled.

import { listAsText, placesToFill } from "./refill.js";
import { pictureKey, readTicks, writeTicks } from "./ticks.js";
import { describePlace, describePlaces, describeSurety, formatNumber, formatTime, say } from "./words.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

/** `onShow(place)` hears of a tap on a place, `onTick()` of one that was ticked off or no longer is. */
export function createList({ onShow, onTick }) {
  const shown = { item: null, answer: null, places: [], filled: new Set() };

  /** The lines are written anew only for another answer, so that a focused one stays focused. */
  function render(item) {
    if (item === shown.item && item.answer === shown.answer) return;
    Object.assign(shown, { item, answer: item.answer, places: placesToFill(item.answer), filled: readTicks(pictureKey(item.file)) });
    element("refill-title").textContent = describePlaces(shown.places);
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

  function title() {
    return `${shown.item.name}, ${formatTime(shown.item.file.lastModified)}`;
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
