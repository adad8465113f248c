// The pictures in their order, each with its state, a button to show it and one to take it out.

import { drawThumbnail } from "./picture.js";
import { describeItem, formatNumber, formatTime, say } from "./words.js";

export function createStrip(list, { onSelect, onRemove }) {
  const tiles = new Map(); // by item; lines stay, so that a focused button stays focused

  function add(item) {
    const canvas = make("canvas", { ariaHidden: "true" });
    const words = make("span", {});
    words.append(make("b", {}), make("time", {}), make("i", {}));
    const show = make("button", { type: "button", className: "tile", title: item.name });
    show.append(canvas, words);
    const drop = make("button", { type: "button", className: "drop", title: say("remove"), textContent: "×" });
    drop.ariaLabel = say("removeNamed", { name: item.name });
    show.addEventListener("click", () => onSelect(item));
    drop.addEventListener("click", () => onRemove(item));
    const tile = make("li", {});
    tile.append(show, drop);
    tiles.set(item, tile);
    list.append(tile);
  }

  /** `count` gives the number of products that are shown of an item. */
  function update(items, selected, count) {
    for (const item of items) if (!tiles.has(item)) add(item);
    for (const [item, tile] of tiles) if (!items.includes(item)) remove(item, tile);
    items.forEach((item, index) => {
      const tile = tiles.get(item);
      const [name, time, told] = tile.querySelectorAll("b, time, i");
      tile.dataset.state = item.state;
      select(tile, item === selected);
      name.textContent = `${formatNumber(index + 1)}. ${item.name}`;
      time.textContent = formatTime(item.file.lastModified);
      told.textContent = describeItem(item, count(item));
    });
  }

  /** A tile that becomes the shown one scrolls into the strip's view. */
  function select(tile, selected) {
    const known = tile.firstChild.getAttribute("aria-current") === "true";
    tile.firstChild.setAttribute("aria-current", String(selected));
    if (selected && !known) tile.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function remove(item, tile) {
    tiles.delete(item);
    tile.remove();
  }

  function setBitmap(item, bitmap) {
    const canvas = tiles.get(item)?.querySelector("canvas");
    if (bitmap && canvas) drawThumbnail(canvas, bitmap);
  }

  return { update, setBitmap, focus: (item) => tiles.get(item).firstChild.focus() };
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
