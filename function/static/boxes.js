// Geometry and data of the page: pure functions, no DOM. tests/boxes.test.js runs them in node.

/** The largest whole-pixel size with the image's proportions that fits into the frame. */
export function fitImage(image, frame) {
  if (!(image.width > 0 && image.height > 0)) return { width: 0, height: 0 };
  const scale = Math.max(0, Math.min(frame.width / image.width, frame.height / image.height));
  return { width: Math.round(image.width * scale), height: Math.round(image.height * scale) };
}

/** `xyxy` in image pixels -> rectangle in whole canvas pixels: each edge is rounded, so neighbours still meet. */
export function scaleBox(xyxy, image, canvas) {
  const x = Math.round((xyxy[0] * canvas.width) / image.width);
  const y = Math.round((xyxy[1] * canvas.height) / image.height);
  const right = Math.round((xyxy[2] * canvas.width) / image.width);
  const bottom = Math.round((xyxy[3] * canvas.height) / image.height);
  return { x, y, width: Math.max(1, right - x), height: Math.max(1, bottom - y) };
}

/** Exact above the confidence the server was asked for: a weak box never suppresses a stronger one. */
export function filterByConfidence(detections, threshold) {
  return detections.filter((detection) => detection.confidence >= threshold);
}

/** One line of the table a row, numbered from the top. */
export function summarizeRows(rows, gaps) {
  return rows.map((row) => ({
    number: row.index + 1,
    count: row.count,
    fillRate: row.fill_rate,
    gaps: gaps.filter((gap) => gap.row === row.index).length,
  }));
}

/** The fill rate of a picture without rows is null. */
export function formatPercent(rate) {
  return rate === null ? "–" : `${Math.round(rate * 100)} %`;
}

export function formatMilliseconds(timings) {
  const total = Object.values(timings).reduce((sum, value) => sum + value, 0);
  return total < 1000 ? `${Math.round(total)} ms` : `${(total / 1000).toFixed(1)} s`;
}

const WIDE_CANVAS = 480; // CSS pixels; on a narrower one the words would hide the products

/** What stands on a row's band. */
export function labelRow(row, canvasWidth) {
  const number = `${row.index + 1}`;
  return canvasWidth < WIDE_CANVAS ? number : `${number}:  ${row.count} · ${formatPercent(row.fill_rate)}`;
}

/** "1 row", "2 rows" */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** shelf.jpg -> shelf.json */
export function jsonName(imageName) {
  return `${imageName.replace(/\.[^.]*$/, "") || "shelf"}.json`;
}

const RETRYABLE = new Set([408, 429, 500, 502, 503, 504]);

/** An answer that is not 2xx -> what the page says. `problem` is its problem+json, or null where it had none. */
export function describeProblem(status, problem, retryAfter) {
  const retry = RETRYABLE.has(status);
  if (status === 429 || status === 503) {
    const wait = Number(retryAfter) > 0 ? `in ${plural(Number(retryAfter), "second")}` : "in a moment";
    return { title: "The service is busy", detail: `Please try again ${wait}.`, retry };
  }
  const title = status < 500 ? "The service could not read this picture" : "The service has a problem";
  return { title: problem?.title ?? title, detail: problem?.detail ?? `It answered with status ${status}.`, retry };
}

const LARGE_BYTES = 15e6; // near the service's limit on a body; a server that refuses one early may just hang up

/** No answer at all -> what the page says. */
export function describeSilence(bytes) {
  const detail = "Please check the connection and try again.";
  const size = ` The picture is large (${Math.round(bytes / 1e6)} MB): a smaller one may pass.`;
  return { title: "The service did not answer", detail: bytes > LARGE_BYTES ? detail + size : detail, retry: true };
}
