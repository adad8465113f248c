import assert from "node:assert/strict";
import { test } from "node:test";

import { csvCell, fileName, resultAt, toCsv } from "../function/static/export.js";
import { table } from "./table.js";

const HEADER = "picture,kind,row,number,label,confidence,facings,left,top,right,bottom\r\n";
const product = (row, confidence, ...xyxy) => ({ label: "product", class_id: 0, confidence, xyxy, row });
const gap = (row, facings, ...xyxy) => ({ row, facings, xyxy });
const picture = (name, rows, detections = [], gaps = []) => ({ name, result: { image: { width: 30 }, detections, gaps, rows: Array(rows) } });

table("a gap is a line, then a product is one, numbered as on the page", toCsv, [
  [[[]], HEADER],
  [[[picture("empty.jpg", 0)]], HEADER],
  [[[picture("a.jpg", 3, [product(0, 0.8, 5, 2, 7, 4), product(2, 0.7, 1, 9, 3, 12), product(0, 0.9, 1, 2, 3.5, 4)],
    [gap(2, 1.6, 4, 9, 8, 12), { ...gap(0, 0.3, 9, 2, 10, 4), confidence: 0.5 }]),
  picture("b.jpg", 1, [product(0, 0.6, 0, 0, 1, 1)])]],
    `${HEADER}a.jpg,gap,1,1,,0.5,1,9,2,10,4\r\na.jpg,gap,3,2,,,2,4,9,8,12\r\n`
    + "a.jpg,product,1,1,product,0.9,,1,2,3.5,4\r\na.jpg,product,1,2,product,0.8,,5,2,7,4\r\n"
    + "a.jpg,product,3,1,product,0.7,,1,9,3,12\r\nb.jpg,product,1,1,product,0.6,,0,0,1,1\r\n"],
]);

table("a comma within numbers makes a semicolon of that between cells", (...args) => toCsv(...args).split("\r\n")[1], [
  [[[picture("a,b.jpg", 1, [product(0, 0.8, 5, 2.5, 7, 4)])], ","], '"a,b.jpg";product;1;1;product;0,8;;5;2,5;7;4'],
  [[[picture("a;b.jpg", 1, [product(0, 0.8, 5, 2.5, 7, 4)])], "."], '"a;b.jpg",product,1,1,product,0.8,,5,2.5,7,4'],
]);

table("a cell is quoted where it must be, and never a formula", csvCell, [
  [[""], ""],
  [["aisle 4.jpg"], "aisle 4.jpg"],
  [["a,b.jpg"], '"a,b.jpg"'],
  [['12" shelf.jpg'], '"12"" shelf.jpg"'],
  [["two\nlines"], '"two\nlines"'],
  [["=1+1"], "'=1+1"],
  [["+49.jpg"], "'+49.jpg"],
  [["-cmd|' /C calc'!A0"], "'-cmd|' /C calc'!A0"],
  [["@SUM(A1)"], "'@SUM(A1)"],
  [['=HYPERLINK("x","y")'], '"\'=HYPERLINK(""x"",""y"")"'],
  [["\t=1"], `"'\t'=1"`],
  [["a;=1+1"], `"a;'=1+1"`],
  [["a, =1+1"], `"a,' =1+1"`],
  [["\uff1d1"], "'\uff1d1"],
  [["coca-cola"], "coca-cola"],
  [[-0.5], "-0.5"],
]);

table("a download is named after its picture", fileName, [
  [["", "json"], "shelf.json"],
  [["aisle 4.jpg", "json"], "aisle 4.json"],
  [["store.17.jpeg", "csv"], "store.17.csv"],
  [["image", "boxes.png"], "image.boxes.png"],
]);

const faint = product(0, 0.2501, 0, 0, 1, 1);
const sure = product(0, 0.9, 1, 0, 2, 1);
const below = product(1, 0.5, 0, 2, 1, 3);
const row = (index, count) => ({ index, count, xyxy: [0, 0, 9, 1], fill_rate: 0.5 });
const answerOf = (detections, counts, confidence, truncated = false) => ({
  image: { width: 9 }, detections, count: detections.length, truncated, fill_rate: 0.5, rows: counts.map((n, i) => row(i, n)),
  gaps: [{ row: 1 }], thresholds: { confidence, iou: 0.6 }, timings_ms: {}, later: "kept",
});
const ANSWER = answerOf([sure, below, faint], [2, 1], 0.25);

table("above the service's confidence products and counts follow, and all else stays the service's", resultAt, [
  [[answerOf([], [], 0.25), 0.4], answerOf([], [], 0.4)],
  [[ANSWER, 0.25], ANSWER],
  [[ANSWER, 0.1], ANSWER],
  [[ANSWER, 0.4], answerOf([sure, below], [1, 1], 0.4)],
  [[ANSWER, 0.6], answerOf([sure], [1, 0], 0.6)], // a row that has no product left
  [[ANSWER, 0.95], answerOf([], [0, 0], 0.95)],
]);

test("at the service's own confidence nothing is left out, however the answer is rounded", () => {
  const rounded = answerOf([product(0, 0.3333, 0, 0, 1, 1)], [1], 0.33334);
  assert.equal(resultAt(rounded, 0.33334), rounded);
});

table("a cut answer stays cut as long as all of it is shown", (...args) => resultAt(...args).truncated, [
  [[answerOf([sure], [1], 0.25, true), 0.25], true],
  [[answerOf([sure], [1], 0.25, true), 0.5], true],
  [[answerOf([sure, below], [1, 1], 0.25, true), 0.6], false],
]);
