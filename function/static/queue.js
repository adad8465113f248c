// Pictures in line for the service: one request at a time, and patience with a busy service. No DOM;
// tests/queue.test.js runs it in node.

const MAX_TRIES = 6; // 1 + 2 + 4 + 8 + 16 seconds between them, where the service asks for no more
const MAX_WAIT_SECONDS = 30; // a person would rather hear that it failed

/** Seconds until the next try; null where there should be none. `retryAfter` is the header's text or null. */
export function secondsToWait({ status, retryAfter }, tries, now = Date.now()) {
  if ((status !== 503 && status !== 429) || tries >= MAX_TRIES) return null;
  const asked = Number(retryAfter ?? 0);
  const seconds = Number.isNaN(asked) ? Math.ceil((Date.parse(retryAfter) - now) / 1000) : asked;
  const wait = Math.max(seconds || 0, 2 ** (tries - 1));
  return wait > MAX_WAIT_SECONDS ? null : wait;
}

/** A name that no other has, as "image (2).jpg": phones name each new photo alike. */
export function nameApart(name, others) {
  const [, stem, ending] = /^(.*?)(\.[^.]*)?$/s.exec(name);
  let apart = name;
  for (let number = 2; others.includes(apart); number += 1) apart = `${stem} (${number})${ending ?? ""}`;
  return apart;
}

/** Nothing is left to ask of a picture that went, or that is counted and compared with nothing. */
function isSettled({ cancel, answer, reference }) {
  return cancel.signal.aborted || (answer !== null && reference === null);
}

/**
 * Items are `{ name, file, reference, state, answer, refusal, seconds }`; state is waiting, counting, pausing, counted or
 * failed. One that was counted before keeps its answer until it has another.
 *
 * `predict(item, signal)` gives the answer or throws a refusal; `changed(item)` hears of each change of state;
 * `sleep(seconds)` waits; `isPaused()` holds the line, until `resume()`.
 */
export function createQueue({ predict, changed, sleep, isPaused }) {
  const items = [];
  let working = false;

  function add(name, file) {
    const cancel = new AbortController();
    const apart = nameApart(name, items.map((other) => other.name));
    const item = { name: apart, file, reference: null, state: "waiting", answer: null, refusal: null, seconds: 0, cancel };
    items.push(item);
    changed(item);
    return item;
  }

  function change(item, values) {
    if (item.cancel.signal.aborted) return;
    Object.assign(item, values);
    changed(item);
  }

  async function resume() {
    if (working) return;
    working = true;
    for (let item; !isPaused() && (item = items.find(({ state }) => state === "waiting"));) await count(item);
    working = false;
  }

  async function count(item) {
    for (let tries = 1; !isSettled(item); tries += 1) {
      change(item, { state: "counting" });
      const { reference } = item;
      const { answer = null, refusal = null } = await ask(item);
      if (item.reference !== reference) tries = 0; // the person has chosen another one meanwhile
      else if (answer) return change(item, { state: "counted", answer, refusal });
      else {
        const seconds = secondsToWait(refusal, tries);
        if (seconds === null) return change(item, { state: item.answer ? "counted" : "failed", refusal });
        await countDown(item, seconds);
      }
    }
  }

  function ask(item) {
    return predict(item, item.cancel.signal).then((answer) => ({ answer }), (refusal) => ({ refusal }));
  }

  async function countDown(item, seconds) {
    for (let left = seconds; left > 0 && !isSettled(item); left -= 1) {
      change(item, { state: "pausing", seconds: left });
      await sleep(1);
    }
  }

  function refuse(item, refusal) {
    change(item, { state: "failed", refusal });
  }

  function retry(item) {
    change(item, { state: isSettled(item) ? "counted" : "waiting", refusal: null });
    return resume();
  }

  /** Takes the item out; a request for it ends. */
  function remove(item) {
    items.splice(items.indexOf(item), 1);
    item.cancel.abort();
  }

  return { items, add, refuse, retry, remove, resume };
}
