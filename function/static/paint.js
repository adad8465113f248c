// Draws an audit on a canvas: over the picture on the page, and on the picture that is downloaded.

import { placeBox } from "./boxes.js";
import { formatNumber, labelRow } from "./words.js";

const COLOURS = {
  product: "#2ee6c5", productFaded: "#2ee6c559", gap: "#ffb020", gapFill: "#ffb0205c", filled: "#7ddc5a", filledFill: "#7ddc5a4d",
  row: "#ffffffb0", rowFill: "#ffffff17", halo: "#04181880", haloFaded: "#04181826", veil: "#04100fa6", label: "#06201fe6",
  labelLit: "#0f766e", text: "#ffffff", textOnGap: "#1c1200", missing: "#ff5a4e", extra: "#c792ff", moved: "#5ab0ff",
  spot: "#ffffff",
};
const NARROW = 480; // in units; below it the words on a row would hide its products

/**
 * `shelf` is `{ detections, rows }`. Of `marks`, `layers` says which of products, gaps, rows and differences to draw;
 * `places` are the gaps to fill and `filled` the ids of those that are ticked off; `differences` those to a reference;
 * `lit` is the index of the row to mark or null, and `alone` puts the others in shadow; `spot` is a box to ring or null.
 * `view` places image pixels; `unit` is one CSS pixel's width in canvas pixels.
 */
export function paintShelf(context, shelf, { layers, places, filled, differences, lit, alone, spot }, view, unit) {
  const place = ({ xyxy }) => placeBox(xyxy, view);
  const marked = shelf.rows[lit ?? -1];
  // Gaps are the question: products step back while there are any, and nothing is drawn over them.
  const faded = (layers.gaps && places.length > 0) || (layers.differences && differences.length > 0);
  if (layers.rows) shelf.rows.forEach((row) => drawBand(context, place(row), unit));
  if (layers.products) {
    const [colour, halo] = faded ? [COLOURS.productFaded, COLOURS.haloFaded] : [COLOURS.product, COLOURS.halo];
    strokeBoxes(context, shelf.detections.map(place), colour, halo, [], unit);
  }
  if (marked && alone) drawVeil(context, place(marked));
  if (layers.rows) shelf.rows.forEach((row) => drawLabel(context, row, place(row), row === marked, unit));
  if (layers.differences) differences.forEach((difference) => drawDifference(context, difference, place, view, unit));
  if (layers.gaps) drawPlaces(context, places, filled, place, unit);
  if (spot) drawSpot(context, placeBox(spot, view), unit);
}

/** All but one box lies in shadow. */
function drawVeil(context, box) {
  const veil = new Path2D();
  veil.rect(0, 0, context.canvas.width, context.canvas.height);
  veil.rect(box.x, box.y, box.width, box.height);
  context.fillStyle = COLOURS.veil;
  context.fill(veil, "evenodd");
}

/** All boxes as one path: hundreds redraw while the slider moves. The dark halo keeps them visible on bright packs. */
function strokeBoxes(context, boxes, colour, halo, dash, unit, weight = 1.5) {
  const line = Math.max(1, Math.round(weight * unit));
  const middle = (line % 2) / 2; // an odd line is sharp only on the middle of a pixel
  const path = new Path2D();
  for (const box of boxes) path.rect(box.x + middle, box.y + middle, box.width, box.height);
  for (const [style, width, dashes] of [[halo, line * 2, []], [colour, line, dash]]) {
    context.setLineDash(dashes);
    Object.assign(context, { strokeStyle: style, lineWidth: width });
    context.stroke(path);
  }
  context.setLineDash([]);
}

function drawPlaces(context, places, filled, place, unit) {
  for (const done of [true, false]) { // what is left to do lies on top
    const some = places.filter(({ id }) => filled.has(id) === done);
    const boxes = some.map(place);
    context.fillStyle = done ? COLOURS.filledFill : COLOURS.gapFill;
    for (const box of boxes) context.fillRect(box.x, box.y, box.width, box.height);
    strokeBoxes(context, boxes, done ? COLOURS.filled : COLOURS.gap, COLOURS.halo, [], unit, 2.5);
    some.forEach(({ number }, i) => drawBadge(context, done ? "✓" : formatNumber(number), boxes[i], done ? COLOURS.filled : COLOURS.gap, unit));
  }
}

/** The number that a place has in the list, in its box's middle. */
function drawBadge(context, text, box, colour, unit) {
  context.font = `700 ${12 * unit}px system-ui, sans-serif`;
  const radius = Math.max(9 * unit, context.measureText(text).width / 2 + 4 * unit);
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  Object.assign(context, { fillStyle: COLOURS.textOnGap, textAlign: "center", textBaseline: "middle" });
  context.fillText(text, x, y);
  context.textAlign = "start";
}

function drawDifference(context, difference, place, view, unit) {
  const box = place(difference);
  const colour = COLOURS[difference.kind];
  strokeBoxes(context, [box], colour, COLOURS.halo, difference.kind === "missing" ? [6 * unit, 4 * unit] : [], unit, 2.5);
  if (!difference.from) return;
  const from = placeBox(difference.from, view);
  context.beginPath();
  context.moveTo(from.x + from.width / 2, from.y + from.height / 2);
  context.lineTo(box.x + box.width / 2, box.y + box.height / 2);
  Object.assign(context, { strokeStyle: colour, lineWidth: 3 * unit });
  context.stroke();
}

function drawSpot(context, box, unit) {
  strokeBoxes(context, [box], COLOURS.spot, COLOURS.label, [], unit, 4);
}

function drawBand(context, box, unit) {
  const line = Math.max(1, Math.round(unit));
  context.fillStyle = COLOURS.rowFill;
  context.fillRect(box.x, box.y, box.width, box.height);
  context.fillStyle = COLOURS.row;
  context.fillRect(box.x, box.y, box.width, line);
  context.fillRect(box.x, box.y + box.height - line, box.width, line);
}

/** At the row's left end, or where the view cuts it off. */
function drawLabel(context, row, box, lit, unit) {
  const text = labelRow(row, box.width / unit < NARROW);
  context.font = `600 ${11 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.fillStyle = lit ? COLOURS.labelLit : COLOURS.label;
  const x = Math.max(0, box.x);
  context.fillRect(x, box.y, context.measureText(text).width + 10 * unit, 17 * unit);
  context.fillStyle = COLOURS.text;
  context.fillText(text, x + 5 * unit, box.y + 9 * unit);
}
