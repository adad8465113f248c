// What the page says: pure functions, numbers in the reader's own format. tests/words.test.js runs them in node.

export function formatNumber(value, locale) {
  return new Intl.NumberFormat(locale).format(value);
}

/** The fill rate of a picture without rows is null. */
export function formatPercent(rate, locale) {
  return rate === null ? "–" : new Intl.NumberFormat(locale, { style: "percent" }).format(rate);
}

export function formatConfidence(value, locale) {
  return new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
}

/** What the slider does, and what does not follow it above the confidence that the service found a picture at. */
export function describeConfidence(shown, found, locale) {
  if (shown <= found) return "Further right, only surer products count; rows and gaps stay as they are.";
  return `Rows, gaps and fill rates are those found at ${formatConfidence(found, locale)}.`;
}

/** The service's own steps; the way there and back is not its time. */
export function formatMilliseconds(timings, locale) {
  const total = Object.values(timings).reduce((sum, value) => sum + value, 0);
  const [value, unit, digits] = total < 1000 ? [total, "millisecond", 0] : [total / 1000, "second", 1];
  return new Intl.NumberFormat(locale, { style: "unit", unit, maximumFractionDigits: digits }).format(value);
}

/** "1 row", "2 rows" */
export function plural(count, noun, locale) {
  return `${formatNumber(count, locale)} ${noun}${count === 1 ? "" : "s"}`;
}

/** An audit in one sentence, for the status line and for screen readers. */
export function describeAudit({ count, rows, gaps, fill_rate }, locale) {
  if (rows.length === 0) return "No products found.";
  const found = `${plural(count, "product", locale)} in ${plural(rows.length, "row", locale)}`;
  const missing = gaps.length === 0 ? "no gaps" : plural(gaps.length, "gap", locale);
  return `${found}, ${missing}, ${formatPercent(fill_rate, locale)} filled.`;
}

/** What stands on a row's band; only the number where words would hide the products. */
export function labelRow({ index, count, fill_rate }, narrow, locale) {
  const number = formatNumber(index + 1, locale);
  return narrow ? number : `${number}:  ${formatNumber(count, locale)} · ${formatPercent(fill_rate, locale)}`;
}

/** Where an item of the queue stands. */
export function describeItem(item, count, locale) {
  switch (item.state) {
    case "waiting": return "waiting";
    case "counting": return "counting…";
    case "pausing": return `again in ${formatNumber(item.seconds, locale)} s`;
    case "counted": return plural(count, "product", locale);
    default: return "not counted";
  }
}

/** All items in one line: "3 pictures: 2 counted, 1 waiting." */
export function describeQueue(items, locale) {
  const of = (...states) => items.filter(({ state }) => states.includes(state)).length;
  const parts = [[of("counted"), "counted"], [of("waiting", "counting", "pausing"), "to go"], [of("failed"), "failed"]];
  const told = parts.filter(([count]) => count > 0).map(([count, word]) => `${formatNumber(count, locale)} ${word}`);
  return `${plural(items.length, "picture", locale)}: ${told.join(", ")}`;
}

const SMALLER = "Save it smaller, or take it again with a lower resolution.";
const OTHER_FORMAT = "JPEG, PNG and WebP pictures can be counted. Save it as one of these, or take a new photo.";
const LATER = "Nothing is wrong with the picture. Please try again.";

/** Last part of a problem's `type` -> what a store manager reads, and what helps. */
const SENTENCES = {
  "image-empty": ["This file is empty.", "Choose the picture again, or take a new photo."],
  "image-too-large": ["This picture is too large.", SMALLER],
  "request-entity-too-large": ["This picture is too large.", SMALLER],
  "image-unsupported": ["This kind of file cannot be counted.", OTHER_FORMAT],
  "image-corrupt": ["This picture is damaged.", "A part of it is missing or broken. Copy it again, or take a new photo."],
  "unauthorized": ["This service needs an access token.", "Enter yours, and the picture is counted."],
  "not-ready": ["The service is still starting.", LATER],
  "overloaded": ["The service is busy.", LATER],
  "dependency-failed": ["The service could not do its work.", LATER],
  "internal-server-error": ["Something went wrong in the service.", `${LATER} If it happens again, tell its operators.`],
  "request-timeout": ["The upload took too long.", "Please try again, with a better connection or a smaller picture."],
};

const RETRYABLE = new Set([0, 401, 408, 425, 429, 500, 502, 503, 504]); // 0: no answer at all

/** `refusal` is `{ status, problem, bytes }`: an answer that is not 2xx, its problem+json or null. */
export function describeRefusal({ status, problem, bytes }, locale) {
  const retry = RETRYABLE.has(status);
  if (status === 0) return { ...describeSilence(bytes, locale), said: "", retry };
  const slug = String(problem?.type ?? "").split(/[:/#]/).at(-1);
  const told = problem?.title ? `${problem.title}.` : `The service answered with status ${status}.`;
  const [title, detail] = SENTENCES[slug] ?? [told, retry ? LATER : "This picture was not counted."];
  return { title, detail, said: problem?.detail ?? "", retry };
}

const LARGE_BYTES = 15e6; // near the service's limit on a body; a proxy that refuses one early may just hang up

function describeSilence(bytes, locale) {
  const detail = "Check the connection, then try again.";
  const size = ` The picture is large (${formatNumber(Math.round(bytes / 1e6), locale)} MB): a smaller one may pass.`;
  return { title: "The service does not answer.", detail: bytes > LARGE_BYTES ? detail + size : detail };
}

export const NOT_A_PICTURE = { status: 415, problem: { type: "image-unsupported" }, bytes: 0 };
