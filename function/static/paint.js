// Draws an audit on a canvas: over the picture on the page, and on the picture that is downloaded.

import { placeBox } from "./boxes.js";
import { labelRow } from "./words.js";

const COLOURS = {
  product: "#2ee6c5", gap: "#ffb020", gapFill: "#ffb02038", row: "#ffffffb0", rowFill: "#ffffff17",
  halo: "#04181880", veil: "#04100fa6", label: "#06201fe6", labelLit: "#0f766e", text: "#ffffff",
};
const NARROW = 480; // in units; below it the words on a row would hide its products

/**
 * `shelf` is `{ detections, rows, gaps }`; `layers` says which of products, gaps and rows to draw, `lit` is the index of
 * the row to mark or null, and `alone` puts the others in shadow; `view` places image pixels; `unit` is one CSS pixel's
 * width in canvas pixels.
 */
export function paintShelf(context, shelf, { layers, lit, alone }, view, unit) {
  const place = ({ xyxy }) => placeBox(xyxy, view);
  const marked = shelf.rows[lit ?? -1];
  if (layers.rows) shelf.rows.forEach((row) => drawBand(context, place(row), unit));
  if (layers.products) strokeBoxes(context, shelf.detections.map(place), COLOURS.product, [], unit);
  if (layers.gaps) drawGaps(context, shelf.gaps.map(place), unit);
  if (marked && alone) drawVeil(context, place(marked));
  if (layers.rows) shelf.rows.forEach((row) => drawLabel(context, row, place(row), row === marked, unit));
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
function strokeBoxes(context, boxes, colour, dash, unit) {
  const line = Math.max(1, Math.round(1.5 * unit));
  const middle = (line % 2) / 2; // an odd line is sharp only on the middle of a pixel
  const path = new Path2D();
  for (const box of boxes) path.rect(box.x + middle, box.y + middle, box.width, box.height);
  for (const [style, width, dashes] of [[COLOURS.halo, line * 2, []], [colour, line, dash]]) {
    context.setLineDash(dashes);
    Object.assign(context, { strokeStyle: style, lineWidth: width });
    context.stroke(path);
  }
  context.setLineDash([]);
}

function drawGaps(context, boxes, unit) {
  context.fillStyle = COLOURS.gapFill;
  for (const box of boxes) context.fillRect(box.x, box.y, box.width, box.height);
  strokeBoxes(context, boxes, COLOURS.gap, [6 * unit, 4 * unit], unit);
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
