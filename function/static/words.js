// What the page says: pure functions over a table of words, numbers and dates in the reader's own format. The tables are
// words/<language>.js. tests/words.test.js runs it all in node.

import english from "./words/en.js";

const LANGUAGES = ["en", "es"]; // each a file in words/

const speaker = { words: english, language: "en", locale: undefined };

/**
 * Speak the first of a person's languages that there are words for, else English; numbers follow the first of all.
 * Words that do not arrive leave the page in English: it works all the same.
 */
export async function speak(languages) {
  const wanted = languages.map((name) => name.split("-")[0].toLowerCase()).find((name) => LANGUAGES.includes(name)) ?? "en";
  const found = wanted === "en" ? null : await import(`./words/${wanted}.js`).catch(() => null);
  const language = found ? wanted : "en";
  Object.assign(speaker, { words: found?.default ?? english, language, locale: languages.find(isLocale) });
  return language;
}

/** Some systems name what no standard knows: "C", "en-US@posix". */
function isLocale(name) {
  try {
    return Intl.getCanonicalLocales(name).length > 0;
  } catch {
    return false;
  }
}

/** A text of the table; `count` chooses its plural, numbers are formatted. */
export function say(name, values = {}) {
  const entry = speaker.words[name];
  const plural = typeof entry === "string" ? null : new Intl.PluralRules(speaker.language).select(values.count);
  const text = plural === null ? entry : entry[plural] ?? entry.other;
  return text.replace(/\{(\w+)\}/g, (_, key) => (typeof values[key] === "number" ? formatNumber(values[key]) : values[key]));
}

export function formatNumber(value) {
  return new Intl.NumberFormat(speaker.locale).format(value);
}

/** The reader's decimal mark: a comma, else a point. */
export function decimalMark() {
  const parts = new Intl.NumberFormat(speaker.locale).formatToParts(0.5);
  return parts.some(({ type, value }) => type === "decimal" && value === ",") ? "," : ".";
}

/** The fill rate of a picture without rows is null. */
export function formatPercent(rate) {
  return rate === null ? "–" : new Intl.NumberFormat(speaker.locale, { style: "percent" }).format(rate);
}

export function formatConfidence(value) {
  return new Intl.NumberFormat(speaker.locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
}

/** The service's own steps; the way there and back is not its time. */
export function formatMilliseconds(timings) {
  const total = Object.values(timings).reduce((sum, value) => sum + value, 0);
  const [value, unit, digits] = total < 1000 ? [total, "millisecond", 0] : [total / 1000, "second", 1];
  return new Intl.NumberFormat(speaker.locale, { style: "unit", unit, maximumFractionDigits: digits }).format(value);
}

/** The time of day, with the day where it is another one than `now`'s. */
export function formatTime(milliseconds, now = Date.now()) {
  const day = new Date(milliseconds).toDateString() === new Date(now).toDateString() ? {} : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(speaker.locale, { ...day, hour: "2-digit", minute: "2-digit" }).format(milliseconds);
}

/** What is printed and shared says the day, too. */
export function formatDayAndTime(milliseconds) {
  return new Intl.DateTimeFormat(speaker.locale, { dateStyle: "medium", timeStyle: "short" }).format(milliseconds);
}

/** What the slider does. */
export function describeConfidence(shown, found, count) {
  return shown <= found ? say("sliderAll") : say("sliderSome", { count });
}

/** An audit in one sentence, for the status line and for screen readers. */
export function describeAudit({ count, rows, gaps, fill_rate }) {
  if (rows.length === 0) return say("noProducts");
  return say("auditSentence", {
    products: say("products", { count }),
    rows: say("rows", { count: rows.length }),
    gaps: gaps.length === 0 ? say("noGaps") : say("gaps", { count: gaps.length }),
    rate: formatPercent(fill_rate),
  });
}

/** What stands on a row's band; only the number where words would hide the products. */
export function labelRow({ index, count, fill_rate }, narrow) {
  const number = formatNumber(index + 1);
  return narrow ? number : `${number}:  ${formatNumber(count)} · ${formatPercent(fill_rate)}`;
}

/** "5 places to fill, 9 facings"; a picture without a product shows no shelf, and says nothing of one. */
export function describePlaces(places, { count = 1 } = {}) {
  if (places.length === 0) return say(count > 0 ? "nothingToFill" : "noShelf");
  const facings = places.reduce((sum, place) => sum + place.facings, 0);
  return say("headline", { places: say("placesToFill", { count: places.length }), facings: say("facings", { count: facings }) });
}

/** "Row 3, left third" */
export function describePlace({ row, third }) {
  return say("place", { row: row + 1, third: say(third) });
}

/** How a gap was found, where the service says so. */
export function describeSurety({ origin, confidence }) {
  const found = ["seen", "inferred", "both"].includes(origin) ? [say(origin)] : [];
  const sure = typeof confidence === "number" ? [say("sure", { share: formatPercent(confidence) })] : [];
  return [...found, ...sure].join(" · ");
}

/** A warning in a manager's words; one that is not known here, in the service's. */
export function describeWarning({ code, detail }) {
  return speaker.words.warnings[code] ?? detail ?? code;
}

const FEW_IN_PLACE = 0.3; // below it the reference is more likely another shelf's, or another camera's

/** A comparison in one sentence, two where it may be none. */
export function describeCompliance({ rate, missing, extra, moved }) {
  if (rate === null) return say("noSlots");
  if (missing.length + extra.length + moved.length === 0) return say("asItShould");
  const told = say("compliance", {
    rate: formatPercent(rate),
    missing: say("missing", { count: missing.length }),
    extra: say("extra", { count: extra.length }),
    moved: say("moved", { count: moved.length }),
  });
  return rate < FEW_IN_PLACE ? `${told}. ${say("otherShelf")}` : told;
}

/** `kind` is missing, extra or moved; `label` the product's name where the reference has one. */
export function describeDifference({ kind, row, third, label }) {
  const text = say({ missing: "differenceMissing", extra: "differenceExtra", moved: "differenceMoved" }[kind],
    { place: describePlace({ row, third }) });
  return label ? say("labelled", { text, label }) : text;
}

/** Where an item of the queue stands. */
export function describeItem(item, count) {
  switch (item.state) {
    case "waiting": return say("waiting");
    case "counting": return say("counting");
    case "pausing": return say("againIn", { seconds: item.seconds });
    case "counted": return say("products", { count });
    default: return say("notCounted");
  }
}

/** All items in one line: "3 pictures: 2 counted, 1 to go." */
export function describeQueue(items) {
  const of = (...states) => items.filter(({ state }) => states.includes(state)).length;
  const parts = [["counted", of("counted")], ["toGo", of("waiting", "counting", "pausing")], ["failed", of("failed")]];
  const states = parts.filter(([, count]) => count > 0).map(([name, count]) => say(name, { count })).join(", ");
  return say("queue", { pictures: say("picturesCount", { count: items.length }), states });
}

const RETRYABLE = new Set([0, 401, 408, 425, 429, 500, 502, 503, 504, 511]); // 0: no answer at all

/** What a status means where a proxy before the service answers with it, and says no more. */
const SLUGS = { 401: "unauthorized", 408: "request-timeout", 413: "request-entity-too-large", 429: "overloaded", 503: "overloaded", 511: "logged-out" };

/** `refusal` is `{ status, problem, bytes }`: an answer that is not 2xx, its problem+json or null. */
export function describeRefusal({ status, problem, bytes }) {
  const slug = String(problem?.type ?? "").split(/[:/#]/).at(-1);
  const retry = RETRYABLE.has(status) || slug === "request-timeout"; // a browser gets that with 400
  if (status === 0) return { ...describeSilence(bytes), said: "", retry };
  const { problems } = speaker.words;
  const told = problem?.title ? `${problem.title}.` : say("answeredWith", { status: String(status) });
  const known = problems[slug] ?? (problem?.title ? null : problems[SLUGS[status]]);
  const [title, detail] = known ?? [told, say(retry ? "later" : "pictureNotCounted")];
  return { title, detail, said: problem?.detail ?? "", retry };
}

const LARGE_BYTES = 15e6; // near the service's limit on a body; a proxy that refuses one early may just hang up

function describeSilence(bytes) {
  const size = bytes > LARGE_BYTES ? say("largePicture", { megabytes: Math.round(bytes / 1e6) }) : "";
  return { title: say("noAnswer"), detail: say("checkConnection") + size };
}

export const GONE = { status: 410, problem: { type: "image-gone" }, bytes: 0 };
export const NOT_A_PICTURE = { status: 415, problem: { type: "image-unsupported" }, bytes: 0 };
export const LOGGED_OUT = { status: 511, problem: null, bytes: 0 };
