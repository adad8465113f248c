import assert from "node:assert/strict";
import { test } from "node:test";

import { createQueue, nameApart, secondsToWait } from "../function/static/queue.js";
import { table } from "./table.js";

const NOW = Date.parse("2026-01-01T00:00:00Z");
const busy = (retryAfter = null) => ({ status: 503, retryAfter });

table("a busy service is asked again after what it says, later each time, not for ever", (refusal, tries) => secondsToWait(refusal, tries, NOW), [
  [[{ status: 422, retryAfter: null }, 1], null],
  [[{ status: 500, retryAfter: "1" }, 1], null],
  [[{ status: 0, retryAfter: null }, 1], null],
  [[busy(), 1], 1],
  [[busy("1"), 1], 1],
  [[busy("7"), 1], 7],
  [[busy("7"), 4], 8],
  [[{ status: 429, retryAfter: "2" }, 1], 2],
  [[busy("Thu, 01 Jan 2026 00:00:05 GMT"), 1], 5],
  [[busy("soon"), 2], 2],
  [[busy("3600"), 1], null],
  [[busy("1"), 5], 16],
  [[busy("1"), 6], null],
]);

table("a name that another picture has gets a number", nameApart, [
  [["image.jpg", []], "image.jpg"],
  [["image.jpg", ["other.jpg", "image.png"]], "image.jpg"],
  [["image.jpg", ["image.jpg"]], "image (2).jpg"],
  [["image.jpg", ["image.jpg", "image (2).jpg"]], "image (3).jpg"],
  [["a.b.jpg", ["a.b.jpg"]], "a.b (2).jpg"],
  [["picture", ["picture"]], "picture (2)"],
]);

test("pictures of one name are told apart", () => {
  const { queue } = queueOf({}, () => true);
  for (const file of ["a", "b", "c"]) queue.add("image.jpg", file);
  assert.deepEqual(queue.items.map(({ name }) => name), ["image.jpg", "image (2).jpg", "image (3).jpg"]);
});

/** A queue whose service answers by a script, and a record of every state of every item. */
function queueOf(answers, paused = () => false) {
  const seen = [];
  const waited = [];
  let most = 0;
  let running = 0;
  const queue = createQueue({
    async predict({ file }, signal) {
      running += 1;
      most = Math.max(most, running);
      await new Promise(setImmediate);
      running -= 1;
      const answer = (answers[file] ?? []).shift();
      if (signal.aborted || !answer?.count) throw answer ?? { status: 0 };
      return answer;
    },
    changed: (item) => seen.push(`${item.name} ${item.state}${item.state === "pausing" ? ` ${item.seconds}` : ""}`),
    sleep: async (seconds) => { waited.push(seconds); },
    isPaused: paused,
  });
  return { queue, seen, waited, most: () => most };
}

test("pictures are counted one at a time in their order", async () => {
  const { queue, seen, most } = queueOf({ a: [{ count: 1 }], b: [{ count: 2 }] });
  for (const name of ["a", "b"]) queue.add(name, name);
  await Promise.all([queue.resume(), queue.resume()]);
  assert.deepEqual(seen, ["a waiting", "b waiting", "a counting", "a counted", "b counting", "b counted"]);
  assert.deepEqual(queue.items.map((item) => item.answer.count), [1, 2]);
  assert.equal(most(), 1);
});

test("a refused picture fails alone", async () => {
  const { queue } = queueOf({ a: [{ status: 422 }], b: [{ count: 2 }] });
  for (const name of ["a", "b"]) queue.add(name, name);
  await queue.resume();
  assert.deepEqual(queue.items.map((item) => item.state), ["failed", "counted"]);
  assert.deepEqual(queue.items[0].refusal, { status: 422 });
});

test("the wait for a busy service is told second by second", async () => {
  const { queue, seen, waited } = queueOf({ a: [busy("3"), { count: 1 }] });
  queue.add("a", "a");
  await queue.resume();
  assert.deepEqual(seen.slice(2), ["a pausing 3", "a pausing 2", "a pausing 1", "a counting", "a counted"]);
  assert.deepEqual(waited, [1, 1, 1]);
});

test("a service that stays busy fails the picture, and a retry starts anew", async () => {
  const { queue } = queueOf({ a: [...Array(6).fill(busy("1")), { count: 1 }] });
  const item = queue.add("a", "a");
  await queue.resume();
  assert.equal(item.state, "failed");
  await queue.retry(item);
  assert.equal(item.state, "counted");
  assert.equal(item.refusal, null);
});

test("a comparison that fails leaves the picture counted as it was", async () => {
  const { queue, seen } = queueOf({ a: [{ count: 1 }, { status: 400 }, { count: 2 }] });
  const item = queue.add("a", "a");
  await queue.resume();
  item.reference = { name: "morning" };
  await queue.retry(item);
  assert.deepEqual([item.state, item.answer, item.refusal], ["counted", { count: 1 }, { status: 400 }]);
  await queue.retry(item);
  assert.deepEqual([item.state, item.answer, item.refusal], ["counted", { count: 2 }, null]);
  assert.deepEqual(seen.slice(-3), ["a waiting", "a counting", "a counted"]);
});

test("what is chosen while a comparison is on its way is what is asked, and nothing is where none is", async () => {
  const answers = { a: [{ count: 1 }, { count: 2, of: "morning" }, { count: 3, of: "evening" }, { count: 4, of: "morning" }] };
  const { queue } = queueOf(answers);
  const item = queue.add("a", "a");
  await queue.resume();
  item.reference = { name: "morning" };
  const work = queue.retry(item);
  item.reference = { name: "evening" };
  queue.retry(item);
  await work;
  assert.deepEqual([item.state, item.answer], ["counted", { count: 3, of: "evening" }]);
  const again = queue.retry(item);
  Object.assign(item, { reference: null, answer: { count: 1 } });
  queue.retry(item);
  assert.equal(item.state, "counted");
  await again;
  assert.deepEqual([item.state, item.answer, answers.a], ["counted", { count: 1 }, []]);
});

test("a removed picture is cancelled and changes no more", async () => {
  const { queue, seen } = queueOf({ a: [{ count: 1 }], b: [{ count: 2 }] });
  const item = queue.add("a", "a");
  queue.add("b", "b");
  const work = queue.resume();
  queue.remove(item);
  await work;
  assert.ok(item.cancel.signal.aborted);
  assert.deepEqual(queue.items.map(({ name, state }) => `${name} ${state}`), ["b counted"]);
  assert.ok(!seen.includes("a counted") && !seen.includes("a failed"));
});

test("a paused line waits and goes on", async () => {
  let paused = true;
  const { queue } = queueOf({ a: [{ count: 1 }] }, () => paused);
  const item = queue.add("a", "a");
  await queue.resume();
  assert.equal(item.state, "waiting");
  paused = false;
  await queue.resume();
  assert.equal(item.state, "counted");
});

test("what the page refuses itself is never sent", async () => {
  const { queue } = queueOf({ a: [{ count: 1 }] });
  const item = queue.add("a", "a");
  queue.refuse(item, { status: 415 });
  await queue.resume();
  assert.equal(item.state, "failed");
});
