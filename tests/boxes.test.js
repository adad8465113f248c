import assert from "node:assert/strict";
import { test } from "node:test";

import {
  boxAt, clamp, dragView, filterByConfidence, fitView, groupByRow, panView, placeBox, scaleView, showBox, turnImage,
  withSurroundings, zoomView,
} from "../function/static/boxes.js";
import { table } from "./table.js";

const size = (width, height) => ({ width, height });
const point = (x, y) => ({ x, y });
const view = (scale, x, y) => ({ scale, x, y });
const rectangle = (x, y, width, height) => ({ x, y, width, height });
const detection = (confidence) => ({ confidence });

table("an image fits into the frame, in its middle, and keeps its proportions", fitView, [
  [[size(0, 0), size(800, 600)], view(1, 0, 0)],
  [[size(800, 600), size(800, 600)], view(1, 0, 0)],
  [[size(100, 100), size(400, 200)], view(2, 100, 0)],
  [[size(2000, 4000), size(800, 600)], view(0.15, 250, 0)],
  [[size(4000, 1000), size(400, 600)], view(0.1, 0, 250)],
]);

const IMAGE = size(1000, 500);
const FRAME = size(500, 500); // fitted: scale 0.5, y 125

table("zooming keeps the point of the image under the finger", zoomView, [
  [[view(0.5, 0, 125), 4, point(250, 250), IMAGE, FRAME], view(2, -750, -250)],
  [[view(0.5, 0, 125), 4, point(0, 250), IMAGE, FRAME], view(2, 0, -250)],
  [[view(2, -750, -250), 1, point(10, 10), IMAGE, FRAME], view(2, -750, -250)],
]);

table("zooming ends at the fitted size and at the largest", (...args) => zoomView(...args).scale, [
  [[view(0.5, 0, 125), 0.1, point(0, 0), IMAGE, FRAME], 0.5],
  [[view(0.5, 0, 125), 1000, point(0, 0), IMAGE, FRAME], 4],
  [[view(0.1, 0, 0), 1000, point(0, 0), size(5000, 5000), FRAME], 4],
  [[view(5, 0, 0), 1000, point(0, 0), size(100, 100), FRAME], 40],
]);

table("a moved image never leaves the frame", panView, [
  [[view(0.5, 0, 125), 50, 50, IMAGE, FRAME], view(0.5, 0, 125)],
  [[view(2, -750, -250), 100, -50, IMAGE, FRAME], view(2, -650, -300)],
  [[view(2, -750, -250), 9000, 9000, IMAGE, FRAME], view(2, 0, 0)],
  [[view(2, -750, -250), -9000, -9000, IMAGE, FRAME], view(2, -1500, -500)],
]);

table("one finger moves the image, two stretch it around their middle", dragView, [
  [[view(2, -750, -250), [point(0, 0)], [point(10, 20)], IMAGE, FRAME], view(2, -740, -230)],
  [[view(1, -250, 0), [point(200, 250), point(300, 250)], [point(150, 250), point(350, 250)], IMAGE, FRAME],
    view(2, -750, -250)],
  [[view(1, -250, 0), [point(9, 9), point(9, 9)], [point(0, 9), point(18, 9)], IMAGE, FRAME], view(1, -250, 0)],
]);

test("a box is shown whole where that makes it larger, else at twice the fitted size from its left", () => {
  const small = showBox([400, 200, 500, 250], IMAGE, FRAME);
  assert.deepEqual(small, view(4, -1550, -650)); // the largest scale; the box's middle is the frame's
  const wide = showBox([100, 200, 1000, 300], IMAGE, FRAME);
  assert.deepEqual(wide, view(1, -100, 0));
  const tall = showBox([0, 0, 1000, 500], IMAGE, FRAME);
  assert.equal(tall.scale, 0.94);
});

table("a view on a denser surface shows the same", scaleView, [
  [[view(0.5, 10, 20), 1], view(0.5, 10, 20)],
  [[view(0.5, 10, 20), 2], view(1, 20, 40)],
]);

table("a box in image pixels becomes whole pixels of the surface", placeBox, [
  [[[0, 0, 0, 0], view(1, 0, 0)], rectangle(0, 0, 1, 1)],
  [[[10, 20, 30, 60], view(1, 0, 0)], rectangle(10, 20, 20, 40)],
  [[[412.0, 96.5, 488.2, 301.0], view(0.5, 0, 0)], rectangle(206, 48, 38, 103)],
  [[[50, 50, 100, 100], view(2, -100, 5)], rectangle(0, 105, 100, 100)],
  [[[10, 10, 10.2, 10.2], view(0.1, 0, 0)], rectangle(1, 1, 1, 1)],
]);

test("boxes that touch in the image touch on the surface at every scale", () => {
  for (let scale = 0.3; scale < 3; scale += 0.17) {
    const left = placeBox([0, 0, 33.3, 10], view(scale, 3.3, 0));
    const right = placeBox([33.3, 0, 71, 10], view(scale, 3.3, 0));
    assert.equal(left.x + left.width, right.x);
  }
});

table("the box under a point is found, its right and lower edges are outside", boxAt, [
  [[[], point(0, 0), view(1, 0, 0)], null],
  [[[[0, 0, 10, 10], [10, 0, 20, 10]], point(10, 5), view(1, 0, 0)], 1],
  [[[[0, 0, 10, 10]], point(5, 10), view(1, 0, 0)], null],
  [[[[0, 0, 10, 10]], point(25, 25), view(2, 10, 10)], 0],
]);

table("detections at or above the threshold stay, in their order", filterByConfidence, [
  [[[], 0.25], []],
  [[[detection(0.9), detection(0.25), detection(0.2)], 0.25], [detection(0.9), detection(0.25)]],
  [[[detection(0.3)], 0.95], []],
]);

const standing = (row, left) => ({ row, xyxy: [left, 0, left + 1, 1] });

table("detections stand in the rows that the service gave them, from left to right, and a row may be empty", groupByRow, [
  [[[], 0], []],
  [[[], 2], [[], []]],
  [[[standing(2, 5), standing(0, 9), standing(2, 3), standing(0, 1)], 3],
    [[standing(0, 1), standing(0, 9)], [], [standing(2, 3), standing(2, 5)]]],
]);

table("a spot is shown with what stands around it, inside the picture", withSurroundings, [
  [[[400, 200, 420, 240], IMAGE], [370, 170, 450, 270]],
  [[[0, 0, 20, 40], IMAGE], [0, 0, 50, 70]],
  [[[990, 480, 1000, 500], IMAGE], [975, 465, 1000, 500]],
]);

table("a value stays between its limits", clamp, [[[5, 0, 3], 3], [[-1, 0, 3], 0], [[2, 0, 3], 2]]);

test("an image turned as EXIF says has its first pixel where EXIF puts it, and fills its new size", () => {
  const [width, height] = [30, 20];
  const firstPixel = { 1: [0, 0], 2: [30, 0], 3: [30, 20], 4: [0, 20], 5: [0, 0], 6: [20, 0], 7: [20, 30], 8: [0, 30] };
  for (const [orientation, [x, y]] of Object.entries(firstPixel)) {
    const turned = turnImage({ width, height }, Number(orientation));
    const [a, b, c, d, e, f] = turned.matrix;
    assert.deepEqual([turned.width, turned.height], orientation > 4 ? [20, 30] : [30, 20]);
    assert.deepEqual([e, f], [x, y], orientation);
    const last = [a * width + c * height + e, b * width + d * height + f]; // the corner across
    assert.deepEqual(last, [turned.width - x, turned.height - y], orientation);
  }
});
