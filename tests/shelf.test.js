import { auditShelf } from "../function/static/shelf.js";
import { table } from "./table.js";

const box = (left, top, right, bottom) => ({ xyxy: [left, top, right, bottom] });
/** Products 10 wide and 20 high on a floor, by their left edges. */
const rowOf = (floor, ...lefts) => lefts.map((left) => box(left, floor - 20, left + 10, floor));

table("products are rows from the top, and each row counts its own", (boxes) => auditShelf(boxes).rows, [
  [[[]], []],
  [[[box(5, 5, 15, 25)]], [{ index: 0, xyxy: [5, 5, 15, 25], count: 1, fill_rate: 1 }]],
  [[[...rowOf(60, 0, 10), ...rowOf(20, 0, 10, 20)]],
    [{ index: 0, xyxy: [0, 0, 30, 20], count: 3, fill_rate: 1 }, { index: 1, xyxy: [0, 40, 20, 60], count: 2, fill_rate: 1 }]],
  // Half of the lower one's height in common is enough, less is not.
  [[[box(0, 0, 10, 20), box(10, 10, 20, 30)]], [{ index: 0, xyxy: [0, 0, 20, 30], count: 2, fill_rate: 1 }]],
  [[[box(0, 0, 10, 20), box(10, 11, 20, 31)]],
    [{ index: 0, xyxy: [0, 0, 10, 20], count: 1, fill_rate: 1 }, { index: 1, xyxy: [10, 11, 20, 31], count: 1, fill_rate: 1 }]],
  [[[box(0, 0, 0, 0)]], [{ index: 0, xyxy: [0, 0, 0, 0], count: 1, fill_rate: 1 }]],
]);

table("a space of eight tenths of a facing is a gap", (boxes) => auditShelf(boxes).gaps, [
  [[[]], []],
  [[rowOf(20, 0, 10, 27.9)], []],
  [[rowOf(20, 0, 10, 28)], [{ row: 0, xyxy: [20, 0, 28, 20], facings: 0.8 }]],
  [[[...rowOf(20, 0, 10), ...rowOf(60, 0, 25)]], [{ row: 1, xyxy: [10, 40, 25, 60], facings: 1.5 }]],
  // A wide product may reach behind the next one.
  [[[box(0, 0, 50, 20), box(5, 0, 15, 20), box(50, 0, 60, 20)]], []],
  [[[box(0, 0, 0, 20), box(5, 0, 5, 20)]], []],
]);

table("the fill rate weighs rows by their width", (boxes) => auditShelf(boxes).fill_rate, [
  [[[]], null],
  [[[box(0, 0, 0, 20)]], null],
  [[rowOf(20, 0, 10, 30)], 0.75],
  [[[...rowOf(20, 0, 10, 30), ...rowOf(60, 0, 10, 20, 30, 40, 50)]], 0.9],
]);

table("a row's products stand from left to right", (boxes) => auditShelf(boxes).members.map((row) => row.map(({ xyxy }) => xyxy[0])), [
  [[[]], []],
  [[[...rowOf(60, 20, 0, 10), ...rowOf(20, 5)]], [[5], [0, 10, 20]]],
]);
