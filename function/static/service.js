// The two calls of the service that the page needs.

import { keep, kept } from "./storage.js";
import { GONE, LOGGED_OUT } from "./words.js";

let token = kept("sessionStorage", "token") ?? ""; // gone with the tab

export function setToken(text) {
  token = text;
  keep("sessionStorage", "token", text);
}

const NOT_REACHED = new Set([502, 504]); // a proxy's own answer, while the service behind it is away

/** The audit of one picture, compared with its reference where it has one; throws `{ status, problem, retryAfter, bytes }`, status 0 where the service gave no answer. */
export async function predict({ file, reference }, signal) {
  const body = new FormData();
  body.append("file", file);
  if (reference) body.append("reference", new Blob([JSON.stringify(reference.json)], { type: "application/json" }), "reference.json");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch("predict", { method: "POST", body, headers, signal, redirect: "manual" }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (response?.ok && Array.isArray(answer?.detections)) return answer; // else a portal's or a proxy's word
  if (isLogin(response)) throw Object.assign(new Error("A portal wants a login"), LOGGED_OUT);
  const retryAfter = response?.headers.get("Retry-After") ?? null;
  if (!response && !(await isReadable(file))) throw Object.assign(new Error("The file is gone"), GONE);
  const status = NOT_REACHED.has(response?.status) && !answer?.type ? 0 : response?.status ?? 0;
  const refusal = { status, problem: answer, retryAfter, bytes: file.size };
  throw Object.assign(new Error("The picture was not counted"), refusal);
}

/** The service itself redirects nobody, and answers no picture with a page. */
function isLogin(response) {
  return response?.type === "opaqueredirect" || (response?.ok && /html/.test(response.headers.get("Content-Type")));
}

/** A file that was changed, moved or on a card that is out cannot be sent, however well the service is. */
function isReadable(file) {
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

/** "ready", "starting" or "away"; a service that hides its health, as behind a login, is taken as ready. */
export async function askHealth() {
  const response = await fetch("health/ready", { cache: "no-store", redirect: "manual" }).catch(() => null);
  if (!response || NOT_REACHED.has(response.status)) return "away";
  return response.status === 503 ? "starting" : "ready";
}
