// The page: pictures in, POST /predict, answers drawn over the pictures. This file holds what is on the page and its
// listeners. What it calls: boxes, words, refill, export and queue (pure, run in node), service and picture (to and from the
// browser), storage, view and paint (the canvas), strip, list, compare and report (the rest of the page).
//
// The service is asked once a picture, at its own confidence, where the slider starts, and once more for each
// comparison. Further right the page leaves out products without another request; rows, gaps and fill rates stay the
// service's: nothing else audits.

import { withSurroundings } from "./boxes.js";
import { createCompare } from "./compare.js";
import { fileName, resultAt, toCsv } from "./export.js";
import { createList } from "./list.js";
import { annotate, decodeForView, needsTurn, shrinkToSend } from "./picture.js";
import { createQueue } from "./queue.js";
import { asReference, differencesOf, placesToFill } from "./refill.js";
import { createReport } from "./report.js";
import { askHealth, predict, setToken } from "./service.js";
import { keep, kept } from "./storage.js";
import { createStrip } from "./strip.js";
import { createView } from "./view.js";
import {
  NOT_A_PICTURE, decimalMark, describeAudit, describeCompliance, describeItem, describePlaces, describeQueue, describeRefusal,
  formatPercent, say, speak,
} from "./words.js";

const HEALTH_SECONDS = 2; // between two questions while the service is not ready

const element = (id) => document.getElementById(id);
const sleep = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
const slider = element("confidence");

element("smaller").checked = kept("localStorage", "smaller") === "true";
document.documentElement.lang = await speak(navigator.languages);
for (const part of document.querySelectorAll("[data-words]")) part.textContent = say(part.dataset.words);
for (const part of document.querySelectorAll("[data-label]")) part.ariaLabel = say(part.dataset.label);

/**
 * `pictured` is the item on the canvas, `bitmap` its picture and `decoding` the promise of the selected one's; `lit` the index of the row that is pointed at, `alone` where the others go dark;
 * `spot` the box that was asked for; `locked` the refusal that asks for a token or a login.
 */
const state = {
  selected: null, pictured: null, bitmap: null, decoding: null, lit: null, alone: false, spot: null, service: "ready", watching: false,
  locked: null,
};

const queue = createQueue({
  predict: async (item, signal) => predict({ ...item, file: await fileToSend(item) }, signal),
  changed: onItemChanged,
  sleep,
  isPaused: () => state.service !== "ready" || state.locked !== null,
});

const view = createView(element("frame"), element("picture"), element("overlay"), {
  onRow: (index) => lightRow(index, false),
  onZoom: showZoom,
});
const strip = createStrip(element("strip"), { onSelect: select, onRemove: remove });
const report = createReport({
  onLight: (index) => lightRow(index, true),
  onZoom: (index) => show(state.selected.answer.rows[index].xyxy, null),
});
const list = createList({ onShow: ({ xyxy }) => showSpot(xyxy), onTick: render });
const compare = createCompare({ onChoose: compareWith, onShow: showSpot });

// ---- pictures come and go

async function addFiles(files) {
  const items = files.map((file) => queue.add(file.name || "picture", file));
  for (const item of items) if (!isPicture(item.file)) queue.refuse(item, NOT_A_PICTURE);
  if (items.length > 0) select(items[0]);
  queue.resume();
  for (const item of items.slice(1)) await addThumbnail(item);
}

/** With its owner's leave the picture itself stays here; the answer's boxes are in the pixels of what was sent. */
async function fileToSend(item) {
  if (!element("smaller").checked) return item.file;
  if (item === state.selected) return shrinkToSend(item.file, await state.decoding);
  const bitmap = await decodeForView(item.file);
  const file = await shrinkToSend(item.file, bitmap);
  bitmap?.close();
  return file;
}

/** Only what calls itself something else is kept back: a 2 GB film need not be sent to be refused. */
function isPicture(file) {
  return !file.type || file.type.startsWith("image/");
}

async function addSample(name) {
  const response = await fetch(`static/samples/${name}`).catch(() => null);
  const picture = response?.ok ? await response.blob().catch(() => null) : null;
  if (!picture) return watchService("away");
  const lastModified = Date.parse(response.headers.get("Last-Modified") ?? "") || Date.now(); // ticks are kept by it
  addFiles([new File([picture], name, { type: "image/jpeg", lastModified })]);
  element("frame").focus(); // the sample's button went away
}

/** The picture stays in sight while the list is read: style.css holds it at the top. */
function show(xyxy, spot) {
  state.spot = spot;
  view.zoomTo(xyxy);
  draw();
}

function showSpot(xyxy) {
  show(withSurroundings(xyxy, state.selected.answer.image), xyxy);
}

/** Only the service compares. What it said of the reference before goes at once: it says nothing of this one. */
function compareWith(item, reference) {
  const { compliance, ...answer } = item.answer;
  state.spot = null;
  item.answer = answer;
  item.reference = reference?.answer ? { json: asReference(reference.answer), of: reference } : reference;
  queue.retry(item);
}

async function addThumbnail(item) {
  const bitmap = isPicture(item.file) ? await decodeForView(item.file, item.answer?.image.orientation) : null;
  strip.setBitmap(item, bitmap);
  bitmap?.close();
}

async function select(item) {
  Object.assign(state, { selected: item, pictured: null, lit: null, spot: null });
  render();
  const orientation = item?.answer?.image.orientation;
  const decoding = item && isPicture(item.file) ? decodeForView(item.file, orientation) : null;
  state.decoding = decoding;
  const bitmap = await decoding;
  if (item) strip.setBitmap(item, bitmap);
  if (state.selected !== item) return bitmap?.close();
  const before = state.bitmap;
  Object.assign(state, { pictured: item, bitmap });
  showPicture();
  before?.close(); // only now: a frame on its way may still draw it
}

/** The picture in the pixels of its boxes; a browser that cannot show it still shows the boxes. */
function showPicture() {
  const image = state.selected?.answer?.image ?? state.bitmap;
  element("main").classList.toggle("pictureless", !image);
  view.setPicture(state.bitmap, image && { width: image.width, height: image.height });
  render();
}

function remove(item) {
  const next = queue.items[queue.items.indexOf(item) + 1] ?? queue.items[queue.items.indexOf(item) - 1] ?? null;
  queue.remove(item);
  if (state.selected === item) select(next);
  else render();
  if (next) strip.focus(next);
  else element("choose").focus();
}

function onItemChanged(item) {
  if (item.refusal) onFailed(item);
  else if (item.state === "counted") onCounted(item);
  render();
}

function onFailed(item) {
  announce(`${item.name}: ${describeRefusal(item.refusal).title}`);
  if (item.refusal.status === 0) watchService("away");
  if ([401, 511].includes(item.refusal.status)) state.locked = item.refusal; // the others would be refused too
}

/** Now the size in the boxes' pixels is known, and how the picture has to be turned. */
async function onCounted(item) {
  const { compliance } = item.answer;
  const told = compliance ? describeCompliance(compliance) : `${describeAudit(item.answer)} ${describePlaces(placesToFill(item.answer), item.answer)}`;
  announce(`${item.name}: ${told}`);
  if (item === state.pictured) showPicture();
  if (!(await needsTurn(item.file, item.answer.image.orientation))) return;
  if (item === state.selected) select(item);
  else addThumbnail(item);
}

/** The browser asks before it leaves photos that may still be counted: one that was taken here is nowhere else. */
function onLeave(event) {
  if (queue.items.some(({ answer, refusal }) => !answer && (!refusal || describeRefusal(refusal).retry))) event.preventDefault();
}

/** For screen readers: each result once, not at every step of the slider. */
function announce(text) {
  element("announce").textContent = text;
}

// ---- the service's health

async function watchService(found) {
  setService(found);
  if (state.watching) return;
  state.watching = true;
  while (state.service !== "ready") {
    await sleep(HEALTH_SECONDS);
    setService(await askHealth());
  }
  state.watching = false;
  queue.items.filter((item) => item.refusal?.status === 0 && !item.sentAgain).forEach(sendAgain);
  queue.resume();
}

/** Once by itself: a picture that the network never lets through must not be sent for ever. */
function sendAgain(item) {
  item.sentAgain = true;
  queue.retry(item);
}

function setService(found) {
  state.service = found;
  element("service").textContent = found === "ready" ? "" : say(found);
}

// ---- what the page shows

/** An item's result at the slider's confidence, never below its own; kept until the slider moves. */
function resultOf(item) {
  const confidence = Math.max(Number(slider.value), item.answer.thresholds.confidence);
  if (item.shown?.answer !== item.answer || item.shown.confidence !== confidence) {
    item.shown = { answer: item.answer, confidence, result: resultAt(item.answer, confidence) };
  }
  return item.shown.result;
}

/** The slider cannot go below what the service found the picture at; a value that does moves there. */
function setSliderStart(answer) {
  slider.min = answer.thresholds.confidence;
}

function layers() {
  const names = ["gaps", "products", "rows", "differences"];
  return Object.fromEntries(names.map((name) => [name, element(`show-${name}`).checked]));
}

/** What is drawn of the selected picture, as paintShelf takes it. */
function marks() {
  const { answer } = state.selected;
  const { lit, alone, spot } = state;
  const differences = answer.compliance ? differencesOf(answer) : [];
  return { layers: layers(), places: list.places(), filled: list.filled(), differences, lit, alone, spot };
}

function render() {
  const item = state.selected;
  const answer = item?.answer ?? null;
  if (answer) setSliderStart(answer);
  element("main").dataset.state = item ? "picture" : "empty";
  element("choose-label").textContent = say(item ? "addPictures" : "choosePictures");
  element("report").hidden = !answer;
  element("status").textContent = item && !answer ? statusOf(item) : "";
  element("comparing").textContent = item && answer ? statusOf(item) : "";
  element("picture").setAttribute("aria-label", say("picture", { audit: answer ? describeAudit(answer) : "" }));
  if (answer) renderReport(item, answer);
  renderProblem(item?.refusal ?? (item?.state === "waiting" ? state.locked : null), answer ? "comparing" : "status");
  renderStrip();
  draw();
}

function renderReport(item, answer) {
  report.render(resultOf(item), answer);
  list.render(item);
  compare.render(item, queue.items);
  element("differences-layer").hidden = !answer.compliance;
}

function draw() {
  const item = state.selected;
  const drawn = item !== null && item === state.pictured && item.answer !== null;
  view.setShelf(drawn ? resultOf(item) : null, drawn ? marks() : {});
}

function statusOf(item) {
  switch (item.state) {
    case "counting": return say(item.answer ? "comparing" : "statusCounting");
    case "waiting": return say(item.answer ? "comparing" : "statusWaiting");
    case "pausing": return say("statusBusy", { state: describeItem(item) });
    default: return ""; // counted: the list says it, failed: the problem
  }
}

/** Marks a row on the picture and in the table. */
function lightRow(index, alone) {
  if ((state.lit === index && state.alone === alone) || !state.pictured?.answer) return;
  Object.assign(state, { lit: index, alone });
  report.light(index);
  draw();
}

function showZoom(share) {
  element("zoom").textContent = formatPercent(share);
  element("zoom-out").disabled = element("zoom-fit").disabled = share < 1.001;
}

/** The alert is written anew only when it says something new, so that it is read once; it stands `below` what failed. */
function renderProblem(refusal, below) {
  const text = element("problem-text");
  const problem = refusal && describeRefusal(refusal);
  const wantsToken = refusal?.status === 401;
  const words = problem ? `${problem.title} ${problem.detail} ${problem.said}` : "";
  if (element("problem").previousElementSibling.id !== below) element(below).after(element("problem"));
  element("problem").hidden = !problem;
  element("retry").hidden = !problem?.retry || wantsToken;
  element("token-form").hidden = !wantsToken;
  if (text.dataset.words === words) return;
  text.dataset.words = words;
  const parts = problem ? [["strong", problem.title], ["p", problem.detail]] : [];
  if (problem?.said) parts.push(["small", say("serviceSaid", { words: problem.said })]);
  text.replaceChildren(...parts.map(([tag, words]) => Object.assign(document.createElement(tag), { textContent: words })));
}

function renderStrip() {
  strip.update(queue.items, state.selected, (item) => (item.answer ? resultOf(item).count : 0));
  element("queue").textContent = queue.items.length > 1 ? `${describeQueue(queue.items)}${sumOfAll()}` : "";
  element("download-all").hidden = queue.items.filter((item) => item.answer).length < 2;
}

function sumOfAll() {
  const results = queue.items.filter((item) => item.answer).map(resultOf);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  if (results.length < 2) return "";
  const products = say("products", { count: sum(results.map(({ count }) => count)) });
  return say("inAll", { products, gaps: say("gaps", { count: sum(results.map(({ gaps }) => gaps.length)) }) });
}

// ---- downloads

function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it after the click
}

function saveCsv(items, name) {
  const pictures = items.map((item) => ({ name: item.name, result: resultOf(item) }));
  save(`\ufeff${toCsv(pictures, decimalMark())}`, "text/csv", name); // spreadsheets take UTF-8 for it only with the mark
}

function saveJson(item) {
  save(JSON.stringify(resultOf(item), null, 2), "application/json", fileName(item.name, "json"));
}

async function savePng(item) {
  const button = element("download-png");
  button.disabled = true;
  const png = await annotate(item.file, item.answer.image, resultOf(item), marks());
  button.disabled = false;
  if (png) save(png, "image/png", fileName(item.name, "boxes.png"));
  else element("status").textContent = say("cannotDraw");
}

// ---- listeners

function onChoose(event) {
  addFiles([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
}

function onPaste(event) {
  addFiles([...event.clipboardData.files]);
}

function onDrag(event) {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault(); // else the browser leaves the page for the picture
  document.body.classList.toggle("dragging", event.type === "dragover");
  if (event.type === "drop") addFiles([...event.dataTransfer.files]);
}

function onToken(event) {
  event.preventDefault();
  setToken(element("token").value);
  element("token").value = "";
  unlock();
}

function onRetry() {
  unlock();
  if (state.selected.refusal) queue.retry(state.selected);
}

function unlock() {
  const { locked } = state;
  state.locked = null;
  for (const item of queue.items) if (locked && item.refusal?.status === locked.status) queue.retry(item);
  queue.resume();
}

for (const [target, type, listener] of [
  [element("choose"), "change", onChoose],
  [element("photo"), "change", onChoose],
  [window, "beforeunload", onLeave],
  [document, "paste", onPaste],
  [document, "dragover", onDrag],
  [document, "dragleave", onDrag],
  [document, "drop", onDrag],
  [element("samples"), "click", ({ target }) => target.closest("button") && addSample(target.closest("button").dataset.name)],
  [slider, "input", render],
  [element("layers"), "change", render],
  [element("smaller"), "change", ({ target }) => keep("localStorage", "smaller", target.checked)],
  [element("retry"), "click", onRetry],
  [element("token-form"), "submit", onToken],
  [element("zoom-in"), "click", view.zoomIn],
  [element("zoom-out"), "click", view.zoomOut],
  [element("zoom-fit"), "click", view.fit],
  [element("print"), "click", () => window.print()],
  [element("download-csv"), "click", () => saveCsv([state.selected], fileName(state.selected.name, "csv"))],
  [element("download-json"), "click", () => saveJson(state.selected)],
  [element("download-png"), "click", () => savePng(state.selected)],
  [element("download-all"), "click", () => saveCsv(queue.items.filter((item) => item.answer), "shelves.csv")],
]) target.addEventListener(type, listener);

// Chosen while another language's words were on their way.
for (const input of [element("choose"), element("photo")]) if (input.files.length > 0) onChoose({ target: input });

const found = await askHealth();
if (found !== "ready") watchService(found);
