import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import {
  decimalMark, describeAudit, describeCompliance, describeConfidence, describeDifference, describeItem, describePlace, describePlaces,
  describeQueue, describeRefusal, describeSurety, describeWarning, formatConfidence, formatDayAndTime, formatMilliseconds, formatNumber,
  formatPercent, formatTime, labelRow, say, speak,
} from "../function/static/words.js";
import { table } from "./table.js";

const STATIC = new URL("../function/static/", import.meta.url);
const LANGUAGES = await Promise.all(readdirSync(new URL("words/", STATIC)).map(async (file) =>
  [file, (await import(new URL(`words/${file}`, STATIC))).default]));
const [, english] = LANGUAGES.find(([file]) => file === "en.js");

/** A rule in a person's languages. */
function tableIn(languages, rule, call, cases) {
  test(`${languages}: ${rule}`, async () => {
    await speak(languages);
    for (const [args, expected] of cases) assert.deepEqual(call(...args), expected, JSON.stringify(args));
  });
}

/** The names of a table, with the blanks that each text fills in; the plurals of a name are its language's own. */
function shapeOf(words) {
  const blanks = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort().join("");
  return Object.fromEntries(Object.entries(words).map(([name, entry]) => {
    if (typeof entry === "string") return [name, blanks(entry)];
    return [name, entry.other ? blanks(entry.other) : Object.fromEntries(Object.entries(entry).map(([key, value]) => [key, value.length > 0]))];
  }));
}

for (const [file, words] of LANGUAGES) {
  test(`${file} misses no word and no plural, and copies none from English`, () => {
    assert.deepEqual(shapeOf(words), shapeOf(english));
    const forms = new Intl.PluralRules(file.slice(0, 2)).resolvedOptions().pluralCategories.filter((form) => form !== "many");
    for (const [name, entry] of Object.entries(words)) {
      if (entry.other) assert.deepEqual(Object.keys(entry).sort(), [...forms].sort(), name);
    }
    if (words === english) return;
    const same = Object.keys(english).filter((name) => typeof english[name] === "string" && /[a-z]{4}/.test(english[name].replace(/\{\w+\}/g, ""))
      && english[name] === words[name]);
    assert.deepEqual(same, []);
  });
}

test("every text of the page is in the table, and the page as it comes is English", () => {
  const page = readFileSync(new URL("index.html", STATIC), "utf8");
  const texts = [...page.matchAll(/data-words="(\w+)"[^>]*>([^<]*)</g)];
  const labels = [...page.matchAll(/aria-label="([^"]*)" data-label="(\w+)"/g)].map(([all, text, name]) => [all, name, text]);
  assert.ok(texts.length > 30 && labels.length > 5);
  for (const [, name, text] of [...texts, ...labels]) assert.equal(text, english[name], name);
  const unsaid = page.replace(/<noscript>.*<\/noscript>/, "").matchAll(/aria-label="([^"]*)"(?! data-label)/g);
  assert.deepEqual([...unsaid].map(([, text]) => text), ["Shelf picture"]); // app.js says what is on it
});

test("every word that the code says is in the table, and none is left over", () => {
  const files = readdirSync(STATIC).filter((name) => /\.(js|html)$/.test(name));
  const code = files.map((name) => readFileSync(new URL(name, STATIC), "utf8")).join("\n");
  const said = [...code.matchAll(/\bsay\("(\w+)"/g)].map(([, name]) => name);
  assert.deepEqual(said.filter((name) => !(name in english)), []);
  assert.deepEqual(Object.keys(english).filter((name) => !new RegExp(`["{:.,\\s]${name}\\b`).test(code)), []);
});

test("the first of a person's languages that there are words for is spoken, and numbers follow the first of all", async () => {
  assert.equal(await speak(["de-DE", "es-MX", "en"]), "es");
  assert.equal(describePlaces([{ facings: 2 }]), "1 hueco por reponer, 2 frentes");
  assert.equal(formatConfidence(0.25), "0,25");
  assert.equal(await speak(["fr", "de"]), "en");
  assert.equal(await speak(["es-MX"]), "es");
  assert.equal(formatConfidence(0.25), "0.25");
  assert.equal(await speak([]), "en");
  assert.equal(await speak(["en-US@posix", "C", "de"]), "en"); // as some systems name theirs
  assert.equal(formatNumber(1234), "1.234");
});

tableIn(["en"], "a text is filled in, and numbers are formatted", say, [
  [["share"], "Share"],
  [["products", { count: 0 }], "0 products"],
  [["products", { count: 1 }], "1 product"],
  [["products", { count: 1234 }], "1,234 products"],
  [["serviceSaid", { words: "{count} $& x" }], "The service said: {count} $& x"],
]);

tableIn(["en"], "numbers read as the reader writes them", formatNumber, [[[0], "0"], [[1234], "1,234"]]);
tableIn(["de"], "numbers read as the reader writes them", formatNumber, [[[1234], "1.234"]]);
for (const [locale, mark] of [["en-US", "."], ["de-DE", ","], ["es-ES", ","], ["es-MX", "."], ["de-CH", "."], ["ar-EG", "."]]) {
  tableIn([locale], "a spreadsheet's decimal mark is a comma or a point", decimalMark, [[[], mark]]);
}

tableIn(["en"], "a rate reads as a percentage", formatPercent, [[[null], "–"], [[0], "0%"], [[0.916], "92%"]]);
tableIn(["de"], "a rate reads as a percentage", formatPercent, [[[0.916], "92\u00a0%"]]);
tableIn(["en"], "a confidence has two digits", formatConfidence, [[[0.3], "0.30"]]);

const NOON = new Date(2026, 10, 28, 12, 5).getTime();
tableIn(["en-US"], "a time has its day only where it is another", formatTime, [
  [[NOON, NOON + 3.6e6], "12:05 PM"],
  [[NOON, NOON + 864e5], "Nov 28, 12:05 PM"],
]);
tableIn(["es-ES"], "a time has its day only where it is another", formatTime, [[[NOON, NOON], "12:05"], [[NOON, NOON + 864e5], "28 nov, 12:05"]]);

tableIn(["es-ES"], "what is shared says the day", formatDayAndTime, [[[NOON], "28 nov 2026, 12:05"]]);

tableIn(["en"], "the slider says what it does", describeConfidence, [
  [[0.25, 0.25, 0], "Move right to see only the surer products. Rows, gaps and fill rate stay as they are."],
  [[0.26, 0.25, 84], "Less sure products are hidden. Rows, gaps and fill rate are those of all 84."],
]);

tableIn(["en"], "the steps' times add up", formatMilliseconds, [
  [[{}], "0 ms"],
  [[{ decode: 4.1, preprocess: 1.2, inference: 61, postprocess: 0.9 }], "67 ms"],
  [[{ decode: 200, inference: 1234 }], "1.4 sec"],
]);

const audit = (count, rows, gaps, fill_rate) => ({ count, rows: Array(rows), gaps: Array(gaps), fill_rate });

tableIn(["en"], "an audit is one sentence", describeAudit, [
  [[audit(0, 0, 0, null)], "No products found."],
  [[audit(1, 1, 1, 0.5)], "1 product in 1 row, 1 gap, 50% filled."],
  [[audit(1234, 6, 0, 1)], "1,234 products in 6 rows, no gaps, 100% filled."],
]);
tableIn(["es"], "an audit is one sentence", describeAudit, [
  [[audit(84, 5, 9, 0.84)], "84 productos en 5 filas, 9 huecos, ocupación 84\u00a0%."],
]);

tableIn(["en"], "places and facings are counted", describePlaces, [
  [[[]], "Nothing to fill"],
  [[[], { count: 3 }], "Nothing to fill"],
  [[[], { count: 0 }], "No shelf in sight"],
  [[[{ facings: 1 }]], "1 place to fill, 1 facing"],
  [[[{ facings: 4 }, { facings: 2 }]], "2 places to fill, 6 facings"],
]);

tableIn(["en"], "a place is said in words", describePlace, [[[{ row: 2, third: "left" }], "Row 3, left third"]]);
tableIn(["es"], "a place is said in words", describePlace, [[[{ row: 0, third: "middle" }], "Fila 1, centro"]]);

tableIn(["en"], "how sure a gap is, is said where the service says it", describeSurety, [
  [[{}], ""],
  [[{ origin: "seen", confidence: 0.83 }], "seen on the photo · 83% sure"],
  [[{ origin: "inferred" }], "worked out from the spacing"],
  [[{ origin: "dreamt", confidence: 1 }], "100% sure"],
]);

tableIn(["en"], "a warning is in a manager's words, an unknown one in the service's", describeWarning, [
  [[{ code: "dark", detail: "mean 21" }], "The photo is dark: take it again with more light."],
  [[{ code: "new", detail: "Something new" }], "Something new"],
  [[{ code: "new" }], "new"],
]);

const compared = (rate, missing, extra, moved) => ({ rate, missing: Array(missing), extra: Array(extra), moved: Array(moved) });

tableIn(["en"], "a comparison is one sentence", describeCompliance, [
  [[compared(null, 0, 3, 0)], "The reference has no places."],
  [[compared(1, 0, 0, 0)], "Everything stands as it should."],
  [[compared(0.1, 9, 0, 0)], "10% in place: 9 missing, 0 extra, 0 moved. Is it the same shelf, seen from the same place?"],
  [[compared(0.978, 3, 1, 0)], "98% in place: 3 missing, 1 extra, 0 moved"],
]);

tableIn(["en"], "a difference says what and where, and of which product", describeDifference, [
  [[{ kind: "missing", row: 1, third: "right" }], "Missing: Row 2, right third"],
  [[{ kind: "moved", row: 0, third: "left", label: "cola" }], "Moved: Row 1, left third, cola"],
]);

tableIn(["en"], "a row's label is short where it is narrow", labelRow, [
  [[{ index: 0, count: 0, fill_rate: 1 }, true], "1"],
  [[{ index: 2, count: 21, fill_rate: 0.92 }, false], "3:  21 · 92%"],
]);

const item = (state, seconds = 0) => ({ state, seconds });

tableIn(["en"], "a picture's state is a word or its count", describeItem, [
  [[item("waiting"), 0], "waiting"],
  [[item("counting"), 0], "counting…"],
  [[item("pausing", 3), 0], "again in 3 s"],
  [[item("counted"), 92], "92 products"],
  [[item("failed"), 0], "not counted"],
]);

tableIn(["es"], "the line of pictures is told in one line", describeQueue, [
  [[["counted", "counted", "failed"].map((state) => ({ state }))], "3 fotos: 2 contadas, 1 fallida"],
]);

tableIn(["en"], "the line of pictures is told in one line", describeQueue, [
  [[[item("failed")]], "1 picture: 1 failed"],
  [[[item("counted"), item("counting"), item("waiting"), item("pausing"), item("failed")]],
    "5 pictures: 1 counted, 3 to go, 1 failed"],
]);

const refusal = (status, slug, detail, bytes = 0) => ({
  status, bytes, problem: slug && { type: `urn:shelfwatch:problem:${slug}`, title: "Some title", detail },
});

tableIn(["en"], "a problem's type is a sentence, whatever its prefix", (...args) => describeRefusal(...args).title, [
  [[refusal(415, "image-unsupported")], "This kind of file cannot be counted."],
  [[{ status: 422, problem: { type: "https://example.org/problems#image-corrupt" } }], "This picture is damaged."],
  [[refusal(503, "not-ready")], "The service is still starting."],
]);

tableIn(["en"], "an unknown problem is its title, and none is its status", (...args) => describeRefusal(...args).title, [
  [[refusal(400, "brand-new")], "Some title."],
  [[{ status: 502, problem: null }], "The service answered with status 502."],
  [[{ status: 404, problem: { type: "about:blank" } }], "The service answered with status 404."],
  [[{ status: 400, problem: "<html>" }], "The service answered with status 400."],
]);

tableIn(["en"], "what a proxy refuses without a word is told by its status", (...args) => describeRefusal(...args).title, [
  [[{ status: 401, problem: null }], "This service needs an access token."],
  [[{ status: 408, problem: null }], "The upload took too long."],
  [[{ status: 413, problem: null }], "This picture is too large."],
  [[{ status: 429, problem: null }], "The service is busy."],
  [[{ status: 503, problem: { error: "no upstream" } }], "The service is busy."],
  [[{ status: 511, problem: null }], "You are no longer logged in."],
  [[refusal(413, "brand-new")], "Some title."],
]);

table("only what may pass the next time is tried again", (status) => describeRefusal({ status, problem: null, bytes: 0 }).retry, [
  [[0], true], [[400], false], [[401], true], [[413], false], [[422], false], [[429], true], [[500], true], [[503], true], [[511], true],
]);

table("a browser's upload that took too long may pass, whatever its status", (...args) => describeRefusal(...args).retry, [
  [[refusal(400, "request-timeout")], true], [[refusal(408, "request-timeout")], true], [[refusal(400, "bad-request")], false],
]);

test("the service's own words stand beside ours", () => {
  assert.equal(describeRefusal(refusal(413, "image-too-large", "51 megapixels")).said, "51 megapixels");
  assert.equal(describeRefusal(refusal(413, "image-too-large")).said, "");
});

test("silence names the picture's size only where that may be the reason", async () => {
  await speak(["en"]);
  assert.doesNotMatch(describeRefusal(refusal(0, null, "", 5e6)).detail, /large/);
  assert.match(describeRefusal(refusal(0, null, "", 25e6)).detail, /The picture is large \(25 MB\): a smaller one may pass\./);
});
