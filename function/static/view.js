// The picture on the page: two canvases in device pixels, one for the picture and one for what is drawn over it, and
// the ways to zoom and move them.

import { boxAt, dragView, fitView, panView, scaleView, showBox, zoomView } from "./boxes.js";
import { paintShelf } from "./paint.js";

// Of the window's: the whole picture in view, on a phone the list below too. Held over the list, it leaves that half.
const FRAME_HEIGHT = { tall: 0.64, narrow: 0.42, held: 0.5 };
const NARROW = 560; // CSS pixels, as in style.css
const AROUND = 32; // CSS pixels above and below the stage, as in style.css
const MIN_HEIGHT = 220; // CSS pixels
const ZOOM_STEP = 1.5;
const PAN_STEP = 60; // CSS pixels an arrow key
const WHEEL_SPEED = 0.0016; // a notch of a mouse, 100 to 120 pixels, zooms by about a fifth
const PINCH_SPEED = 0.01; // trackpads send pinches as small wheel steps with Ctrl
const LINE_PIXELS = 20; // browsers that count a wheel in lines

/** `onRow(index or null)` hears which row is pointed at, `onZoom(share of the fitted size)` of every zoom. */
export function createView(frame, pictureCanvas, overlayCanvas, { onRow, onZoom }) {
  const shown = { bitmap: null, image: null, shelf: null, marks: {} };
  const pointers = new Map();
  let view = null;
  let fitted = true;
  let pending = 0;

  const size = () => ({ width: frame.clientWidth, height: frame.clientHeight });

  /** A new picture starts fitted; `image` is its size in the pixels of the boxes, null where nothing is known yet. */
  function setPicture(bitmap, image) {
    const same = bitmap === shown.bitmap && image?.width === shown.image?.width && image?.height === shown.image?.height;
    Object.assign(shown, { bitmap, image, shelf: null, marks: {} });
    fitted ||= !same;
    if (!image) view = null;
    layout();
  }

  /** `marks` says what is drawn of a shelf, as paintShelf takes it. */
  function setShelf(shelf, marks) {
    Object.assign(shown, { shelf, marks });
    requestDraw();
  }

  /** As high as the picture is at full width, but never higher than fits on the screen with what stands beside it. */
  function layout() {
    if (!shown.image) return;
    const { clientWidth, clientHeight, style } = document.documentElement;
    const held = getComputedStyle(frame).position === "sticky"; // over the list, else the whole stage stays
    const beside = frame.closest(".stage").offsetHeight - frame.offsetHeight + AROUND;
    const tall = clientHeight * (clientWidth > NARROW ? FRAME_HEIGHT.tall : FRAME_HEIGHT.narrow);
    const most = held
      ? Math.min(tall, clientHeight * FRAME_HEIGHT.held)
      : Math.max(MIN_HEIGHT, clientHeight * FRAME_HEIGHT.narrow, Math.min(tall, clientHeight - beside));
    const height = Math.min(most, Math.max(MIN_HEIGHT, (frame.clientWidth * shown.image.height) / shown.image.width));
    frame.style.height = `${Math.round(height)}px`;
    style.scrollPaddingTop = held ? `${Math.round(height)}px` : ""; // what gets the focus comes out from under it
    setView(fitted ? fitView(shown.image, size()) : zoomView(view, 1, { x: 0, y: 0 }, shown.image, size()));
  }

  function setView(next) {
    const zoomed = next.scale / fitView(shown.image, size()).scale;
    view = next;
    fitted = zoomed < 1.001;
    frame.classList.toggle("zoomed", !fitted);
    onZoom(zoomed);
    requestDraw();
  }

  function zoom(factor, point = { x: frame.clientWidth / 2, y: frame.clientHeight / 2 }) {
    if (view) setView(zoomView(view, factor, point, shown.image, size()));
  }

  function fit() {
    if (view) setView(fitView(shown.image, size()));
  }

  function zoomTo(xyxy) {
    setView(showBox(xyxy, shown.image, size()));
  }

  // ---- drawing, in device pixels, at most once a frame

  function requestDraw() {
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      draw();
    });
  }

  /** On paper both lie on one canvas: Chromium prints the emptying of the upper one as white over the picture. */
  function draw({ onPaper = false } = {}) {
    if (!view) return;
    const sharp = scaleView(view, devicePixelRatio);
    const { bitmap, image, shelf } = shown;
    const context = clear(pictureCanvas);
    context.imageSmoothingQuality = "high";
    if (bitmap) context.drawImage(bitmap, sharp.x, sharp.y, image.width * sharp.scale, image.height * sharp.scale);
    const over = onPaper ? context : clear(overlayCanvas);
    if (shelf) paintShelf(over, shelf, shown.marks, sharp, devicePixelRatio);
  }

  function clear(canvas) {
    canvas.width = Math.round(frame.clientWidth * devicePixelRatio); // setting it empties the canvas
    canvas.height = Math.round(frame.clientHeight * devicePixelRatio);
    return canvas.getContext("2d");
  }

  // ---- listeners

  function pointOf(event) {
    const edge = frame.getBoundingClientRect();
    return { x: event.clientX - edge.left - frame.clientLeft, y: event.clientY - edge.top - frame.clientTop };
  }

  function onPointerDown(event) {
    if (!view || event.button > 0) return;
    pointers.set(event.pointerId, pointOf(event));
    frame.setPointerCapture(event.pointerId);
    pointAt(event);
  }

  function onPointerMove(event) {
    if (!view) return;
    if (!pointers.has(event.pointerId)) return pointAt(event);
    const before = [...pointers.values()];
    pointers.set(event.pointerId, pointOf(event));
    setView(dragView(view, before, [...pointers.values()], shown.image, size()));
  }

  function onPointerEnd(event) {
    pointers.delete(event.pointerId);
    if (event.type === "pointerleave" && event.pointerType === "mouse") onRow(null);
  }

  function pointAt(event) {
    onRow(shown.shelf ? boxAt(shown.shelf.rows.map(({ xyxy }) => xyxy), pointOf(event), view) : null);
  }

  /** At the fitted size a wheel that turns towards smaller scrolls the page as everywhere. */
  function onWheel(event) {
    if (!view || (event.deltaY > 0 && fitted && !event.ctrlKey)) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 0 ? 1 : LINE_PIXELS);
    zoom(Math.exp(-pixels * (event.ctrlKey ? PINCH_SPEED : WHEEL_SPEED)), pointOf(event));
  }

  /** One finger scrolls the page while the picture is fitted; two always belong to the picture. */
  function onTouchStart(event) {
    if (event.touches.length > 1) event.preventDefault();
  }

  function onKey(event) {
    const move = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const change = { "+": () => zoom(ZOOM_STEP), "=": () => zoom(ZOOM_STEP), "-": () => zoom(1 / ZOOM_STEP),
      "0": fit, Escape: fit }[event.key];
    if (!view || event.ctrlKey || event.metaKey || event.altKey || !(change || (move && !fitted))) return;
    event.preventDefault();
    if (change) change();
    else setView(panView(view, move[0] * PAN_STEP, move[1] * PAN_STEP, shown.image, size()));
  }

  for (const [type, listener, options] of [
    ["pointerdown", onPointerDown],
    ["pointermove", onPointerMove],
    ["pointerup", onPointerEnd],
    ["pointercancel", onPointerEnd],
    ["pointerleave", onPointerEnd],
    ["touchstart", onTouchStart, { passive: false }],
    ["wheel", onWheel, { passive: false }],
    ["dblclick", (event) => zoom(2, pointOf(event))],
    ["keydown", onKey],
  ]) frame.addEventListener(type, listener, options);
  const observer = new ResizeObserver(() => requestAnimationFrame(layout)); // the next frame: layout sets its height
  for (const part of [frame, frame.closest(".stage")]) observer.observe(part);
  window.addEventListener("resize", layout);
  window.addEventListener("beforeprint", () => {
    fit();
    draw({ onPaper: true }); // now: the page is printed before the next frame
  });
  window.addEventListener("afterprint", requestDraw);

  return { setPicture, setShelf, zoomTo, fit, zoomIn: () => zoom(ZOOM_STEP), zoomOut: () => zoom(1 / ZOOM_STEP) };
}
