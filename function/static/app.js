// The page: picture in, POST /predict, answer drawn over the picture. Geometry and wording of data are in boxes.js.
//
// The server computes rows and gaps at the confidence it is asked for. So while the slider moves, the page only hides
// products (exact upwards) and takes rows and gaps off; when it rests, the same picture is asked for again.

import {
  describeProblem, describeSilence, filterByConfidence, fitImage, formatMilliseconds, formatPercent, jsonName,
  labelRow, plural, scaleBox, summarizeRows,
} from "./boxes.js";

const SLIDER_REST_MS = 250; // arrow keys fire "change" at every step: one request, not ten
const FRAME_HEIGHT = 0.82; // of the window's, so that the whole picture is in view
const COLOURS = {
  product: "#2ee6c5", gap: "#ffb020", gapFill: "#ffb02040", row: "#ffffffb0", rowFill: "#ffffff1f",
  halo: "#04181880", label: "#06201fd9", text: "#ffffff",
};

const NOT_A_PICTURE = { title: "This file cannot be shown", detail: "Please choose a JPEG, PNG or WebP picture." };

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const slider = element("confidence");

/** `asked` is the confidence that `answer` belongs to; `request` is the newest one, older ones are aborted. */
const state = { newest: null, file: null, picture: null, answer: null, asked: null, request: null, timer: null };

// ---- picture and request

async function loadImage(file) {
  state.newest = file;
  element("status").textContent = "Opening the picture…";
  const picture = await decode(file);
  if (state.newest !== file) return picture?.close();
  if (!picture) return refuse(NOT_A_PICTURE);
  state.picture?.close();
  Object.assign(state, { file, picture, answer: null, asked: null });
  render();
  await audit();
}

/** The picture before it stays, with its answer. */
function refuse(problem) {
  element("status").textContent = "";
  showProblem(problem);
}

/** Turned as EXIF says, because the answer's boxes are in pixels of the turned image. */
function decode(file) {
  return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
}

async function audit() {
  if (!state.file) return;
  const request = startRequest();
  const confidence = Number(slider.value);
  showProblem(null);
  try {
    const answer = await predict(state.file, confidence, request.signal);
    if (state.request === request) Object.assign(state, { answer, asked: confidence });
  } catch (error) {
    if (state.request === request) showProblem(error.problem ?? describeSilence(state.file.size));
  }
  if (state.request === request) endRequest();
}

function startRequest() {
  clearTimeout(state.timer);
  state.request?.abort();
  state.request = new AbortController();
  element("main").setAttribute("aria-busy", "true");
  element("status").textContent = "Looking at the shelf…";
  return state.request;
}

function endRequest() {
  state.request = null;
  element("main").removeAttribute("aria-busy");
  render();
  element("status").textContent = state.answer && !isStale() ? sentence(state.answer) : "";
}

/** The result; throws with `.problem` where the service answered otherwise. */
async function predict(file, confidence, signal) {
  const body = new FormData();
  body.append("file", file);
  const response = await fetch(`predict?confidence=${confidence}`, { method: "POST", body, signal });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  const retryAfter = response.headers.get("Retry-After");
  throw Object.assign(new Error(), { problem: describeProblem(response.status, problem, retryAfter) });
}

// ---- what the page shows

/** The slider has moved away from the answer's confidence: rows and gaps do not match it until the next answer. */
function isStale() {
  return state.asked !== Number(slider.value);
}

function shownDetections() {
  return filterByConfidence(state.answer.detections, Number(slider.value));
}

function render() {
  element("confidence-value").textContent = Number(slider.value).toFixed(2);
  element("main").dataset.state = state.picture ? "picture" : "empty";
  element("report").hidden = !state.answer;
  if (state.answer) renderReport(state.answer);
  draw();
}

function renderReport(answer) {
  element("report").classList.toggle("stale", isStale());
  const more = Number(slider.value) < state.asked ? "+" : ""; // how many more, only the server knows
  element("count").textContent = `${shownDetections().length}${more}`;
  element("fill-rate").textContent = formatPercent(answer.fill_rate);
  element("gap-count").textContent = answer.gaps.length;
  element("rows-caption").textContent = `Rows from the top, at confidence ${state.asked.toFixed(2)}`;
  element("rows").replaceChildren(...summarizeRows(answer.rows, answer.gaps).map(tableRow));
  element("time").textContent = formatMilliseconds(answer.timings_ms);
  element("model").textContent = `${answer.model.name}, ${answer.model.precision}`;
  element("truncated").hidden = !answer.truncated;
  element("truncated").textContent =
    `Only the ${answer.thresholds.max_detections} surest products are counted; this picture has more.`;
}

function tableRow(row) {
  const line = document.createElement("tr");
  const cells = [row.number, row.count, formatPercent(row.fillRate), row.gaps];
  for (const text of cells) line.insertCell().textContent = text;
  return line;
}

function sentence(answer) {
  const { count, rows, gaps } = answer;
  return `${plural(count, "product")} in ${plural(rows.length, "row")}, ${plural(gaps.length, "gap")}.`;
}

function showProblem(problem) {
  const title = document.createElement("strong");
  title.textContent = problem?.title;
  element("problem").classList.toggle("open", Boolean(problem));
  element("problem-text").replaceChildren(...(problem ? [title, ` ${problem.detail}`] : []));
  element("retry").hidden = !problem?.retry;
}

// ---- drawing, in device pixels

function draw() {
  if (!state.picture) return;
  const context = sizeCanvas();
  context.drawImage(state.picture, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", `Shelf picture. ${state.answer ? sentence(state.answer) : ""}`);
  if (!state.answer) return;
  const { rows, gaps, image } = state.answer;
  const place = ({ xyxy }) => scaleBox(xyxy, image, canvas);
  const bands = element("show-rows").checked && !isStale() ? rows : [];
  bands.forEach((row) => drawBand(context, place(row)));
  if (element("show-products").checked) strokeBoxes(context, shownDetections().map(place), COLOURS.product, []);
  if (element("show-gaps").checked && !isStale()) drawGaps(context, gaps.map(place));
  bands.forEach((row) => drawLabel(context, row, place(row)));
}

function sizeCanvas() {
  const height = document.documentElement.clientHeight * FRAME_HEIGHT;
  const size = fitImage(state.picture, { width: element("frame").clientWidth, height });
  canvas.style.width = `${size.width}px`;
  canvas.style.height = `${size.height}px`;
  canvas.width = Math.round(size.width * devicePixelRatio);
  canvas.height = Math.round(size.height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  return context;
}

/** All boxes as one path: hundreds redraw while the slider moves. The dark halo keeps them visible on bright packs. */
function strokeBoxes(context, boxes, colour, dash) {
  const line = Math.max(1, Math.round(1.5 * devicePixelRatio));
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

function drawGaps(context, boxes) {
  context.fillStyle = COLOURS.gapFill;
  for (const box of boxes) context.fillRect(box.x, box.y, box.width, box.height);
  strokeBoxes(context, boxes, COLOURS.gap, [6 * devicePixelRatio, 4 * devicePixelRatio]);
}

function drawBand(context, box) {
  const line = Math.round(devicePixelRatio);
  context.fillStyle = COLOURS.rowFill;
  context.fillRect(box.x, box.y, box.width, box.height);
  context.fillStyle = COLOURS.row;
  context.fillRect(box.x, box.y, box.width, line);
  context.fillRect(box.x, box.y + box.height - line, box.width, line);
}

function drawLabel(context, row, box) {
  const unit = devicePixelRatio;
  const text = labelRow(row, canvas.width / unit);
  context.font = `600 ${11 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.fillStyle = COLOURS.label;
  context.fillRect(box.x, box.y, context.measureText(text).width + 10 * unit, 17 * unit);
  context.fillStyle = COLOURS.text;
  context.fillText(text, box.x + 5 * unit, box.y + 9 * unit);
}

// ---- listeners

function onChoose(event) {
  const [file] = event.target.files;
  event.target.value = ""; // so that the same file can be chosen again
  if (file) loadImage(file);
}

function onPaste(event) {
  const [file] = event.clipboardData.files;
  if (file) loadImage(file);
}

function onDrag(event) {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault(); // else the browser leaves the page for the picture
  document.body.classList.toggle("dragging", event.type === "dragover");
  const [file] = event.dataTransfer.files;
  if (event.type === "drop" && file) loadImage(file);
}

function onSliderRest() {
  clearTimeout(state.timer);
  if (isStale() || state.request) state.timer = setTimeout(audit, SLIDER_REST_MS);
}

function onDownload() {
  const link = document.createElement("a");
  const json = JSON.stringify(state.answer, null, 2);
  link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
  link.download = jsonName(state.file.name);
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const [target, type, listener] of [
  [element("choose"), "change", onChoose],
  [element("photo"), "change", onChoose],
  [document, "paste", onPaste],
  [document, "dragover", onDrag],
  [document, "dragleave", onDrag],
  [document, "drop", onDrag],
  [slider, "input", render],
  [slider, "change", onSliderRest],
  [element("layers"), "change", draw],
  [element("retry"), "click", audit],
  [element("download"), "click", onDownload],
  [window, "resize", draw],
]) target.addEventListener(type, listener);
