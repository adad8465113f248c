// Geometry of the page: pure functions, no DOM. tests/boxes.test.js runs them in node.
//
// A view says where the image lies on a surface: surface = image * scale + offset, `{ scale, x, y }`.
// Sizes are `{ width, height }`, points `{ x, y }`, boxes `xyxy` in pixels of the image as a person sees it.

const MAX_ZOOM = 8; // times the fitted size, which is enough to read a price tag on a photo of a whole bay
const MAX_PIXEL = 4; // surface pixels an image pixel, for pictures smaller than the frame
const AIR = 0.94; // share of the frame that a box may fill

/** The whole image in the middle of the frame. */
export function fitView(image, frame) {
  if (!(image.width > 0 && image.height > 0)) return { scale: 1, x: 0, y: 0 };
  const scale = Math.max(0, Math.min(frame.width / image.width, frame.height / image.height));
  return settle({ scale, x: 0, y: 0 }, image, frame);
}

/** Zoom around a point of the frame, which stays on the same spot of the image. */
export function zoomView(view, factor, point, image, frame) {
  const fitted = fitView(image, frame).scale;
  const scale = clamp(view.scale * factor, fitted, Math.max(fitted * MAX_ZOOM, MAX_PIXEL));
  const grown = scale / view.scale;
  const x = point.x - (point.x - view.x) * grown;
  const y = point.y - (point.y - view.y) * grown;
  return settle({ scale, x, y }, image, frame);
}

export function panView(view, dx, dy, image, frame) {
  return settle({ scale: view.scale, x: view.x + dx, y: view.y + dy }, image, frame);
}

/** What one finger or the mouse moves, and what two fingers stretch; points before and after, in the frame. */
export function dragView(view, before, after, image, frame) {
  const from = middle(before);
  const to = middle(after);
  const moved = panView(view, to.x - from.x, to.y - from.y, image, frame);
  if (before.length < 2 || distance(before) === 0) return moved;
  return zoomView(moved, distance(after) / distance(before), to, image, frame);
}

/** A box as large as the frame allows; one that is as wide as the image is twice its fitted size, from its left. */
export function showBox(xyxy, image, frame) {
  const [left, top, right, bottom] = xyxy;
  const fitted = fitView(image, frame);
  const high = (AIR * frame.height) / (bottom - top);
  const whole = Math.min(high, (AIR * frame.width) / (right - left));
  const wanted = Math.max(whole, Math.min(high, 2 * fitted.scale));
  const { scale } = zoomView(fitted, wanted / fitted.scale, { x: 0, y: 0 }, image, frame);
  const shown = Math.min((right - left) / 2, frame.width / 2 / scale);
  const x = frame.width / 2 - (left + shown) * scale;
  const y = frame.height / 2 - ((top + bottom) / 2) * scale;
  return settle({ scale, x, y }, image, frame);
}

/** A box and what stands around it, so that a spot is seen in its place. */
export function withSurroundings([left, top, right, bottom], image) {
  const [dx, dy] = [1.5 * (right - left), 0.75 * (bottom - top)];
  return [Math.max(0, left - dx), Math.max(0, top - dy), Math.min(image.width, right + dx), Math.min(image.height, bottom + dy)];
}

/** A larger image covers the frame, a smaller one stands in its middle. */
function settle(view, image, frame) {
  const place = (offset, size, room) => (size <= room ? (room - size) / 2 : clamp(offset, room - size, 0));
  return {
    scale: view.scale,
    x: place(view.x, image.width * view.scale, frame.width),
    y: place(view.y, image.height * view.scale, frame.height),
  };
}

function middle(points) {
  const sum = (key) => points.reduce((total, point) => total + point[key], 0);
  return { x: sum("x") / points.length, y: sum("y") / points.length };
}

function distance([a, b]) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** The same view on a surface with more pixels, as a screen of high density is. */
export function scaleView(view, factor) {
  return { scale: view.scale * factor, x: view.x * factor, y: view.y * factor };
}

/** `xyxy` -> rectangle in whole pixels of the surface: each edge is rounded, so neighbours still meet. */
export function placeBox(xyxy, view) {
  const x = Math.round(xyxy[0] * view.scale + view.x);
  const y = Math.round(xyxy[1] * view.scale + view.y);
  const right = Math.round(xyxy[2] * view.scale + view.x);
  const bottom = Math.round(xyxy[3] * view.scale + view.y);
  return { x, y, width: Math.max(1, right - x), height: Math.max(1, bottom - y) };
}

/** The index of the box under a point of the surface; null where there is none. */
export function boxAt(boxes, point, view) {
  const x = (point.x - view.x) / view.scale;
  const y = (point.y - view.y) / view.scale;
  const index = boxes.findIndex(([left, top, right, bottom]) => left <= x && x < right && top <= y && y < bottom);
  return index < 0 ? null : index;
}

/** The size of an image turned by an EXIF orientation, 1 to 8, and the canvas matrix that turns it. */
export function turnImage({ width, height }, orientation) {
  const matrix = {
    1: [1, 0, 0, 1, 0, 0], 2: [-1, 0, 0, 1, width, 0], 3: [-1, 0, 0, -1, width, height], 4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0], 6: [0, 1, -1, 0, height, 0], 7: [0, -1, -1, 0, height, width], 8: [0, -1, 1, 0, 0, width],
  }[orientation];
  return orientation > 4 ? { width: height, height: width, matrix } : { width, height, matrix };
}

/** Exact above the service's own confidence: a weak box never suppresses a stronger one. */
export function filterByConfidence(detections, threshold) {
  return detections.filter((detection) => detection.confidence >= threshold);
}

/** The detections of each of `count` rows, as the service put them there, from left to right. */
export function groupByRow(detections, count) {
  const rows = Array.from({ length: count }, () => []);
  for (const detection of detections) rows[detection.row].push(detection);
  return rows.map((row) => row.sort((a, b) => a.xyxy[0] - b.xyxy[0]));
}
