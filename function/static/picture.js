// Pictures as the browser reads them: bitmaps for the view, small ones for the strip, and the one with boxes to keep.

import { paintShelf } from "./paint.js";

const MAX_VIEW_EDGE = 4096; // pixels; a 50-megapixel bitmap would hold 200 MB as long as it is shown
const THUMBNAIL = { width: 144, height: 108 };
const UNIT_EDGE = 1200; // a line of one unit on a picture of this size; larger pictures get wider lines

/** Turned as EXIF says, because boxes are in pixels of the turned image; null where the browser cannot read it. */
export function decode(file) {
  return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
}

/** A bitmap that is small enough to be kept. */
export async function decodeForView(file) {
  const bitmap = await decode(file);
  const shrink = bitmap ? MAX_VIEW_EDGE / Math.max(bitmap.width, bitmap.height) : 1;
  if (shrink >= 1) return bitmap;
  const size = { resizeWidth: Math.round(bitmap.width * shrink), resizeHeight: Math.round(bitmap.height * shrink) };
  const small = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
  bitmap.close();
  return small;
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
export async function annotate(file, image, shelf, layers) {
  const bitmap = await decode(file);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  if (!bitmap || !context) return null;
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / UNIT_EDGE);
  paintShelf(context, shelf, layers, null, { scale: 1, x: 0, y: 0 }, unit);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}
