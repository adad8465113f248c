import { asReference, differencesOf, listAsText, placesToFill, thirdOf } from "../function/static/refill.js";
import { table } from "./table.js";

const gap = (row, left, facings) => ({ row, xyxy: [left, 0, left + 10, 5], facings });
const result = (...gaps) => ({ gaps, image: { width: 300, height: 100 } });

table("a place lies in the third of its middle", thirdOf, [
  [[[0, 0, 0, 0], 300], "left"],
  [[[90, 0, 108, 5], 300], "left"],
  [[[95, 0, 110, 5], 300], "middle"],
  [[[195, 0, 205, 5], 300], "right"],
  [[[290, 0, 310, 5], 300], "right"], // a slot of a reference may reach out of the picture
]);

table("places are walked row by row from the top, with whole facings and at least one", (told) =>
  placesToFill(told).map(({ number, row, third, facings }) => [number, row, third, facings]), [
  [[result()], []],
  [[result(gap(1, 200, 2.5), gap(0, 250, 0.4), gap(1, 0, 1.2))], [[1, 0, "right", 1], [2, 1, "left", 1], [3, 1, "right", 3]]],
]);

const places = placesToFill(result(gap(0, 0, 2), gap(2, 120, 1)));

table("the list is text that can be sent", listAsText, [
  [["aisle, 12:05", [], new Set()], "aisle, 12:05\nNothing to fill"],
  [["aisle, 12:05", places, new Set([places[1].id])],
    "aisle, 12:05\n2 places to fill, 3 facings\n☐ Row 1, left third: 2 facings\n☑ Row 3, middle: 1 facing"],
]);

const slot = (row, left) => ({ row, xyxy: [left, 0, left + 10, 5] });
const compared = (missing, extra, moved, ...labels) => ({
  image: { width: 300 }, compliance: { missing, extra, moved }, detections: labels.map((label) => ({ label })),
});

table("differences are listed row by row from the left, a moved one at its slot", (told) =>
  differencesOf(told).map(({ kind, row, third, from }) => [kind, row, third, from?.[0]]), [
  [[compared([], [], [])], []],
  [[compared([slot(1, 0)], [slot(0, 290)], [{ row: 0, slot: [0, 0, 10, 5], xyxy: [20, 0, 30, 5] }])],
    [["moved", 0, "left", 20], ["extra", 0, "right", undefined], ["missing", 1, "left", undefined]]],
]);

table("a product is named only where the model tells products apart", (told) => differencesOf(told).map(({ label }) => label), [
  [[compared([{ ...slot(0, 0), label: "product" }], [], [], "product")], [undefined]],
  [[compared([{ ...slot(0, 0), label: "cola" }], [], [], "product")], ["cola"]], // of a planogram
  [[compared([{ ...slot(0, 0), label: "cola" }], [], [], "cola", "tea")], ["cola"]],
]);

table("a counted picture is the reference of another", asReference, [
  [[{ image: { width: 3, height: 2, bytes: 9 }, detections: [], count: 0 }], { image: { width: 3, height: 2 }, detections: [] }],
  [[{ image: { width: 3, height: 2 }, detections: [{ xyxy: [0, 0, 1, 1], row: 4, label: "cola", confidence: 0.5 }] }],
    { image: { width: 3, height: 2 }, detections: [{ xyxy: [0, 0, 1, 1], row: 4, label: "cola" }] }],
]);
