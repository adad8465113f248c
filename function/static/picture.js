// Pictures as the browser reads them: bitmaps for the view, small ones for the strip, and the one with boxes to keep.

import { turnImage } from "./boxes.js";
import { paintShelf } from "./paint.js";

const MAX_VIEW_EDGE = 4096; // pixels; a 50-megapixel bitmap would hold 200 MB as long as it is shown
const THUMBNAIL = { width: 144, height: 108 };
const MAX_SENT_EDGE = 2048; // pixels; the model looks at 896, its second look at twice as many
const MAX_SENT_ASPECT = 2; // from here on the second look takes all that there is
const SENT_QUALITY = 0.9;
const UNIT_EDGE = 1200; // a line of one unit on a picture of this size; larger pictures get wider lines

/** 2 x 1 pixels that EXIF wants upright: not every browser turns a WebP, Chromium 156 does not. */
const TURNED_WEBP = "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=";
const turnsWebp = read(new Blob([Uint8Array.from(atob(TURNED_WEBP), (byte) => byte.charCodeAt(0))]))
  .then((bitmap) => bitmap?.width === 1);

/** Null where the browser cannot read it. */
function read(file) {
  return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
}

/** Whether a picture of this EXIF orientation has to be turned by us. */
export async function needsTurn(file, orientation) {
  return file.type === "image/webp" && orientation > 1 && !(await turnsWebp);
}

/** Turned as EXIF says, because boxes are in pixels of the turned image; the orientation is the service's word. */
async function decode(file, orientation) {
  const bitmap = await read(file);
  return bitmap && (await needsTurn(file, orientation)) ? turn(bitmap, orientation) : bitmap;
}

function turn(bitmap, orientation) {
  const { width, height, matrix } = turnImage(bitmap, orientation);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(...matrix);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return createImageBitmap(canvas);
}

/** A bitmap that is small enough to be kept. */
export async function decodeForView(file, orientation = 1) {
  const bitmap = await decode(file, orientation);
  const shrink = bitmap ? MAX_VIEW_EDGE / Math.max(bitmap.width, bitmap.height) : 1;
  if (shrink >= 1) return bitmap;
  const size = { resizeWidth: Math.round(bitmap.width * shrink), resizeHeight: Math.round(bitmap.height * shrink) };
  const small = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" }).catch(() => null);
  bitmap.close();
  return small;
}

/** A JPEG with no more pixels than the service looks at; the file itself where that would save nothing. */
export async function shrinkToSend(file, bitmap) {
  const [short, long] = bitmap ? [bitmap.width, bitmap.height].sort((a, b) => a - b) : [0, 0];
  if (file.type !== "image/jpeg" || long <= MAX_SENT_EDGE || long >= MAX_SENT_ASPECT * short) return file;
  const scale = MAX_SENT_EDGE / long;
  const size = { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) };
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, size.width, size.height);
  const small = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", SENT_QUALITY); });
  return small && small.size < file.size ? new File([small], file.name, { type: small.type }) : file;
}

/** Fill a canvas of the strip with the middle of a picture. */
export function drawThumbnail(canvas, bitmap) {
  Object.assign(canvas, THUMBNAIL);
  const context = canvas.getContext("2d");
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

/** The picture in full size with its audit, as PNG; null where it is too large for the browser. */
export async function annotate(file, image, shelf, marks) {
  const bitmap = await decode(file, image.orientation);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  if (!bitmap || !context) return null;
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / UNIT_EDGE);
  paintShelf(context, shelf, { ...marks, lit: null, alone: false, spot: null }, { scale: 1, x: 0, y: 0 }, unit);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}
