import assert from "node:assert/strict";
import { test } from "node:test";

import { csvCell, fileName, resultAt, toCsv } from "../function/static/export.js";
import { table } from "./table.js";

const HEADER = "picture,row,product,label,confidence,left,top,right,bottom\r\n";
const product = (confidence, ...xyxy) => ({ label: "product", class_id: 0, confidence, xyxy });

table("a product is a line, numbered by row and from the left", toCsv, [
  [[[]], HEADER],
  [[[{ name: "empty.jpg", members: [] }]], HEADER],
  [[[{ name: "a.jpg", members: [[product(0.9, 1, 2, 3.5, 4), product(0.8, 5, 2, 7, 4)], [product(0.7, 1, 9, 3, 12)]] },
    { name: "b.jpg", members: [[product(0.6, 0, 0, 1, 1)]] }]],
    `${HEADER}a.jpg,1,1,product,0.9,1,2,3.5,4\r\na.jpg,1,2,product,0.8,5,2,7,4\r\na.jpg,2,1,product,0.7,1,9,3,12\r\n`
    + "b.jpg,1,1,product,0.6,0,0,1,1\r\n"],
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
  [["\t=1"], "'\t=1"],
  [[-0.5], "-0.5"],
]);

table("a download is named after its picture", fileName, [
  [["", "json"], "shelf.json"],
  [["aisle 4.jpg", "json"], "aisle 4.json"],
  [["store.17.jpeg", "csv"], "store.17.csv"],
  [["image", "boxes.png"], "image.boxes.png"],
]);

test("the downloaded result is the service's at the confidence that is shown", () => {
  const answer = { image: { width: 1 }, count: 9, detections: Array(9), thresholds: { confidence: 0.05, iou: 0.6 } };
  const shown = { confidence: 0.4, detections: [1], count: 1, truncated: false, fill_rate: 1, rows: [2], gaps: [], members: [[1]] };
  assert.deepEqual(resultAt(answer, shown), {
    image: { width: 1 }, count: 1, detections: [1], truncated: false, fill_rate: 1, rows: [2], gaps: [],
    thresholds: { confidence: 0.4, iou: 0.6 },
  });
});
