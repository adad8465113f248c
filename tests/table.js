import assert from "node:assert/strict";
import { test } from "node:test";

/** One test a rule; the table's rows are [arguments, expected], the empty case first. */
export function table(rule, call, cases) {
  test(rule, () => {
    for (const [args, expected] of cases) assert.deepEqual(call(...args), expected, JSON.stringify(args));
  });
}
