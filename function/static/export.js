// What can be downloaded: pure functions. tests/export.test.js runs them in node.

/** The service's answer as it would be at the confidence that is shown. */
export function resultAt(answer, shown) {
  return {
    ...answer,
    detections: shown.detections,
    count: shown.count,
    truncated: shown.truncated,
    fill_rate: shown.fill_rate,
    rows: shown.rows,
    gaps: shown.gaps,
    thresholds: { ...answer.thresholds, confidence: shown.confidence },
  };
}

const HEADER = ["picture", "row", "product", "label", "confidence", "left", "top", "right", "bottom"];

/** Pictures `{ name, members }` -> RFC 4180: a line a product, rows from the top, products from the left, from 1. */
export function toCsv(pictures) {
  const lines = pictures.flatMap(({ name, members }) => members.flatMap((row, r) => row.map((detection, i) =>
    [name, r + 1, i + 1, detection.label, detection.confidence, ...detection.xyxy])));
  return [HEADER, ...lines].map((line) => `${line.map(csvCell).join(",")}\r\n`).join("");
}

/** Text that a spreadsheet would run as a formula is disarmed by an apostrophe (OWASP, CSV injection). */
export function csvCell(value) {
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** "shelf.jpg", "csv" -> "shelf.csv" */
export function fileName(imageName, ending) {
  return `${imageName.replace(/\.[^.]*$/, "") || "shelf"}.${ending}`;
}
