import assert from "node:assert/strict";
import { test } from "node:test";

import {
  describeProblem, describeSilence, filterByConfidence, fitImage, formatMilliseconds, formatPercent, jsonName,
  labelRow, plural, scaleBox, summarizeRows,
} from "../function/static/boxes.js";

/** One test a rule; the table's rows are [arguments, expected], the empty case first. */
function table(rule, call, cases) {
  test(rule, () => {
    for (const [args, expected] of cases) assert.deepEqual(call(...args), expected, JSON.stringify(args));
  });
}

const size = (width, height) => ({ width, height });
const rectangle = (x, y, width, height) => ({ x, y, width, height });
const detection = (confidence) => ({ confidence });
const row = (index, count, fill_rate) => ({ index, count, fill_rate });

table("an image fills the frame in one direction and keeps its proportions", fitImage, [
  [[size(0, 0), size(800, 600)], size(0, 0)],
  [[size(100, 100), size(0, 600)], size(0, 0)],
  [[size(800, 600), size(800, 600)], size(800, 600)],
  [[size(2448, 3264), size(800, 600)], size(450, 600)],
  [[size(4000, 1000), size(360, 600)], size(360, 90)],
  [[size(100, 50), size(400, 400)], size(400, 200)],
]);

table("a box in image pixels becomes whole canvas pixels", scaleBox, [
  [[[0, 0, 0, 0], size(100, 100), size(100, 100)], rectangle(0, 0, 1, 1)],
  [[[10, 20, 30, 60], size(100, 100), size(100, 100)], rectangle(10, 20, 20, 40)],
  [[[412.0, 96.5, 488.2, 301.0], size(2448, 3264), size(1224, 1632)], rectangle(206, 48, 38, 103)],
  [[[50, 50, 100, 100], size(100, 100), size(200, 400)], rectangle(100, 200, 100, 200)],
  [[[10, 10, 10.2, 10.2], size(1000, 1000), size(100, 100)], rectangle(1, 1, 1, 1)],
]);

test("boxes that touch in the image touch on the canvas at every scale", () => {
  for (let width = 100; width < 200; width += 7) {
    const left = scaleBox([0, 0, 33.3, 10], size(150, 150), size(width, width));
    const right = scaleBox([33.3, 0, 71, 10], size(150, 150), size(width, width));
    assert.equal(left.x + left.width, right.x);
  }
});

table("detections at or above the threshold stay, in their order", filterByConfidence, [
  [[[], 0.25], []],
  [[[detection(0.9), detection(0.25), detection(0.2)], 0.25], [detection(0.9), detection(0.25)]],
  [[[detection(0.3)], 0.95], []],
]);

table("a row's line has its number from the top and its own gaps", summarizeRows, [
  [[[], []], []],
  [[[row(0, 21, 0.92)], []], [{ number: 1, count: 21, fillRate: 0.92, gaps: 0 }]],
  [[[row(0, 21, 0.92), row(1, 9, 0.5)], [{ row: 1 }, { row: 1 }]],
    [{ number: 1, count: 21, fillRate: 0.92, gaps: 0 }, { number: 2, count: 9, fillRate: 0.5, gaps: 2 }]],
]);

table("a rate reads as a percentage", formatPercent, [
  [[null], "–"],
  [[0], "0 %"],
  [[0.916], "92 %"],
]);

table("a row's label is short where the canvas is narrow", labelRow, [
  [[row(0, 0, 1), 0], "1"],
  [[row(2, 21, 0.92), 479], "3"],
  [[row(2, 21, 0.92), 480], "3:  21 · 92 %"],
]);

table("the steps' times add up", formatMilliseconds, [
  [[{}], "0 ms"],
  [[{ decode: 4.1, preprocess: 1.2, inference: 61, postprocess: 0.9 }], "67 ms"],
  [[{ decode: 200, inference: 1234 }], "1.4 s"],
]);

table("one is singular", plural, [[[0, "gap"], "0 gaps"], [[1, "gap"], "1 gap"], [[2, "gap"], "2 gaps"]]);

table("the download is named after the picture", jsonName, [
  [[""], "shelf.json"],
  [["aisle 4.jpg"], "aisle 4.json"],
  [["store.17.jpeg"], "store.17.json"],
  [["image"], "image.json"],
]);

table("a refusal reads as the service's own words, an overload as a wait", describeProblem, [
  [[400, null, null],
    { title: "The service could not read this picture", detail: "It answered with status 400.", retry: false }],
  [[502, null, null],
    { title: "The service has a problem", detail: "It answered with status 502.", retry: true }],
  [[415, { title: "Unsupported image", detail: "GIF is not read." }, null],
    { title: "Unsupported image", detail: "GIF is not read.", retry: false }],
  [[503, { title: "Overloaded" }, "2"],
    { title: "The service is busy", detail: "Please try again in 2 seconds.", retry: true }],
  [[503, null, "1"], { title: "The service is busy", detail: "Please try again in 1 second.", retry: true }],
  [[429, null, null], { title: "The service is busy", detail: "Please try again in a moment.", retry: true }],
]);

table("silence names the picture's size only where that may be the reason", (bytes) => describeSilence(bytes).detail, [
  [[0], "Please check the connection and try again."],
  [[25e6], "Please check the connection and try again. The picture is large (25 MB): a smaller one may pass."],
]);
