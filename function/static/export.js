// The result at a confidence, and what can be downloaded of it: pure functions. tests/export.test.js runs them in node.

import { filterByConfidence, groupByRow } from "./boxes.js";
import { placesToFill } from "./refill.js";

/** The service's answer with fewer products: they and what counts them follow, all else is as the service found it. */
export function resultAt(answer, confidence) {
  if (confidence <= answer.thresholds.confidence) return answer;
  const detections = filterByConfidence(answer.detections, confidence);
  const members = groupByRow(detections, answer.rows.length);
  return {
    ...answer,
    detections,
    count: detections.length,
    truncated: answer.truncated && detections.length === answer.detections.length,
    rows: answer.rows.map((row, index) => ({ ...row, count: members[index].length })),
    thresholds: { ...answer.thresholds, confidence },
  };
}

const HEADER = ["picture", "kind", "row", "number", "label", "confidence", "facings", "left", "top", "right", "bottom"];

/**
 * Pictures `{ name, result }` -> RFC 4180: a line a gap, then a line a product, rows and numbers from 1.
 *
 * Where the decimal `mark` is a comma, spreadsheets part cells by semicolons: else a line is one cell, and 1.5 a day of May.
 */
export function toCsv(pictures, mark = ".") {
  const lines = pictures.flatMap(({ name, result }) => [...gapLines(name, result), ...productLines(name, result)]);
  const separator = mark === "," ? ";" : ",";
  return [HEADER, ...lines].map((line) => `${line.map((value) => csvCell(value, mark)).join(separator)}\r\n`).join("");
}

/** A gap's number is that of the list and of the picture. */
function gapLines(name, result) {
  return placesToFill(result).map(({ row, number, facings, confidence, xyxy }) =>
    [name, "gap", row + 1, number, "", confidence ?? "", facings, ...xyxy]);
}

/** Products are numbered in their row, from the left. */
function productLines(name, { detections, rows }) {
  return groupByRow(detections, rows.length).flatMap((row) => row.map((detection, i) =>
    [name, "product", detection.row + 1, i + 1, detection.label, detection.confidence, "", ...detection.xyxy]));
}

// Where a cell begins, in whatever locale: some part cells by semicolons, and read full-width signs as signs.
const FORMULA = /(^|[,;\t\r\n])(\s*[=+\-@\uff1d\uff0b\uff0d\uff20])/g;

/** Text that a spreadsheet would run as a formula is disarmed by an apostrophe (OWASP, CSV injection). */
export function csvCell(value, mark = ".") {
  if (typeof value === "number") return String(value).replace(".", mark);
  const text = value.replace(/^[\t\r\n]/, "'$&").replace(FORMULA, "$1'$2");
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** "shelf.jpg", "csv" -> "shelf.csv" */
export function fileName(imageName, ending) {
  return `${imageName.replace(/\.[^.]*$/, "") || "shelf"}.${ending}`;
}
