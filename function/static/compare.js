// Comparing the shown picture with how its shelf should look: another picture, or a file.

import { differencesOf, thirdOf } from "./refill.js";
import { describeCompliance, describeDifference, describePlace, formatTime, say } from "./words.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
const STATES = { in_place: "in_place", missing: "stateMissing", moved: "stateMoved" };

/** `onChoose(item, reference or null)` hears what a picture is to be compared with, `onShow(xyxy)` of a tap. */
export function createCompare({ onChoose, onShow }) {
  const files = []; // `{ name, json }`, kept as long as the page
  const shown = { item: null, answer: null, options: [] };

  /** Pictures that are counted, then files; the shown one cannot be its own reference, one that was taken out stays its. */
  function render(item, items) {
    const pictures = items.filter((other) => other !== item && other.answer);
    const chosen = item.reference?.of ?? item.reference;
    renderOptions([...new Set([null, ...pictures, ...files, chosen])], chosen);
    if (item !== shown.item) element("reference-problem").textContent = "";
    shown.item = item;
    if (item.answer === shown.answer) return;
    shown.answer = item.answer;
    const { compliance } = item.answer;
    element("compliance").hidden = !compliance;
    if (!compliance) return element("differences").replaceChildren();
    element("compliance-told").textContent = describeCompliance(compliance);
    element("differences").replaceChildren(...differencesOf(item.answer).map(differenceLine));
    renderPositions(compliance.positions ?? [], item.answer.image.width);
  }

  function renderOptions(options, chosen) {
    const select = element("reference");
    const known = options.length === shown.options.length && options.every((option, i) => option === shown.options[i]);
    if (!known) {
      shown.options = options;
      select.replaceChildren(...options.map((option, i) => new Option(option ? optionText(option) : say("nothing"), i)));
    }
    select.value = String(options.indexOf(chosen));
  }

  function optionText({ name, file }) {
    return file ? `${name}, ${formatTime(file.lastModified)}` : name;
  }

  function differenceLine(difference) {
    const line = make("li", {});
    const show = make("button", { type: "button", className: `place ${difference.kind}` });
    show.append(make("i", { ariaHidden: "true" }), make("span", { textContent: describeDifference(difference) }));
    show.addEventListener("click", () => onShow(difference.xyxy));
    line.append(show);
    return line;
  }

  function renderPositions(positions, width) {
    element("positions").hidden = positions.length === 0;
    element("positions-title").textContent = say("allPositions", { count: positions.length });
    element("position-rows").replaceChildren(...positions.map((position) => {
      const line = make("tr", { className: position.state });
      const place = describePlace({ row: position.row, third: thirdOf(position.xyxy, width) });
      const header = make("th", { scope: "row", textContent: position.id });
      header.append(make("small", { textContent: place }));
      line.append(header);
      for (const text of [position.label ?? "–", say(STATES[position.state])]) line.insertCell().textContent = text;
      return line;
    }));
  }

  async function onFile(event) {
    const [file] = event.target.files;
    const { item } = shown; // the file's, whatever is shown once it is read
    event.target.value = "";
    const json = await file.text().then(JSON.parse).catch(() => null);
    element("reference-problem").textContent = json ? "" : say("notJson");
    if (!json) return;
    files.push({ name: file.name, json });
    onChoose(item, files.at(-1));
  }

  element("reference").addEventListener("change", (event) => {
    element("reference-problem").textContent = "";
    onChoose(shown.item, shown.options[Number(event.target.value)]);
  });
  element("reference-file").addEventListener("change", onFile);
  return { render };
}
