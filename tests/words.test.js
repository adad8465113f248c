import assert from "node:assert/strict";
import { test } from "node:test";

import {
  describeAudit, describeConfidence, describeItem, describeQueue, describeRefusal, formatConfidence, formatMilliseconds,
  formatNumber, formatPercent, labelRow, plural,
} from "../function/static/words.js";
import { table } from "./table.js";

table("numbers read as the reader writes them", formatNumber, [[[0, "en"], "0"], [[1234, "en"], "1,234"], [[1234, "de"], "1.234"]]);

table("a rate reads as a percentage", formatPercent, [
  [[null, "en"], "–"],
  [[0, "en"], "0%"],
  [[0.916, "en"], "92%"],
  [[0.916, "de"], "92\u00a0%"],
]);

table("a confidence has two digits", formatConfidence, [[[0.3, "en"], "0.30"], [[0.25, "de"], "0,25"]]);

table("above the service's confidence the slider tells what does not follow it", describeConfidence, [
  [[0.25, 0.25, "en"], "Further right, only surer products count; rows and gaps stay as they are."],
  [[0.26, 0.25, "en"], "Rows, gaps and fill rates are those found at 0.25."],
  [[0.5, 0.3, "de"], "Rows, gaps and fill rates are those found at 0,30."],
]);

table("the steps' times add up", formatMilliseconds, [
  [[{}, "en"], "0 ms"],
  [[{ decode: 4.1, preprocess: 1.2, inference: 61, postprocess: 0.9 }, "en"], "67 ms"],
  [[{ decode: 200, inference: 1234 }, "en"], "1.4 sec"],
]);

table("one is singular", plural, [[[0, "gap"], "0 gaps"], [[1, "gap"], "1 gap"], [[2, "gap"], "2 gaps"]]);

const audit = (count, rows, gaps, fill_rate) => ({ count, rows: Array(rows), gaps: Array(gaps), fill_rate });

table("an audit is one sentence", describeAudit, [
  [[audit(0, 0, 0, null), "en"], "No products found."],
  [[audit(0, 2, 1, 0.9), "en"], "0 products in 2 rows, 1 gap, 90% filled."],
  [[audit(1, 1, 1, 0.5), "en"], "1 product in 1 row, 1 gap, 50% filled."],
  [[audit(1234, 6, 0, 1), "en"], "1,234 products in 6 rows, no gaps, 100% filled."],
]);

table("a row's label is short where it is narrow", labelRow, [
  [[{ index: 0, count: 0, fill_rate: 1 }, true, "en"], "1"],
  [[{ index: 2, count: 21, fill_rate: 0.92 }, false, "en"], "3:  21 · 92%"],
]);

const item = (state, seconds = 0) => ({ state, seconds });

table("a picture's state is a word or its count", describeItem, [
  [[item("waiting"), 0], "waiting"],
  [[item("counting"), 0], "counting…"],
  [[item("pausing", 3), 0], "again in 3 s"],
  [[item("counted"), 92, "en"], "92 products"],
  [[item("failed"), 0], "not counted"],
]);

table("the line of pictures is told in one line", describeQueue, [
  [[[item("failed")]], "1 picture: 1 failed"],
  [[[item("counted"), item("counting"), item("waiting"), item("pausing"), item("failed")]],
    "5 pictures: 1 counted, 3 to go, 1 failed"],
]);

const refusal = (status, slug, detail, bytes = 0) => ({
  status, bytes, problem: slug && { type: `urn:shelfwatch:problem:${slug}`, title: "Some title", detail },
});

table("a problem's type is a sentence, whatever its prefix", (...args) => describeRefusal(...args).title, [
  [[refusal(415, "image-unsupported")], "This kind of file cannot be counted."],
  [[{ status: 422, problem: { type: "https://example.org/problems#image-corrupt" } }], "This picture is damaged."],
  [[refusal(503, "not-ready")], "The service is still starting."],
]);

table("an unknown problem is its title, and none is its status", (...args) => describeRefusal(...args).title, [
  [[refusal(400, "brand-new")], "Some title."],
  [[{ status: 502, problem: null }], "The service answered with status 502."],
  [[{ status: 404, problem: { type: "about:blank" } }], "The service answered with status 404."],
  [[{ status: 400, problem: "<html>" }], "The service answered with status 400."],
]);

table("only what may pass the next time is tried again", (status) => describeRefusal({ status, problem: null, bytes: 0 }).retry, [
  [[0], true], [[400], false], [[401], true], [[413], false], [[422], false], [[429], true], [[500], true], [[503], true],
]);

test("the service's own words stand beside ours", () => {
  assert.equal(describeRefusal(refusal(413, "image-too-large", "51 megapixels")).said, "51 megapixels");
  assert.equal(describeRefusal(refusal(413, "image-too-large")).said, "");
});

test("silence names the picture's size only where that may be the reason", () => {
  assert.doesNotMatch(describeRefusal(refusal(0, null, "", 5e6)).detail, /large/);
  assert.match(describeRefusal(refusal(0, null, "", 25e6), "en").detail, /The picture is large \(25 MB\): a smaller one may pass\./);
});
