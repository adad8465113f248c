// The numbers beside the picture: warnings, figures, confidence, and a line of the table for each row.

import {
  describeAudit, describeConfidence, describeWarning, formatConfidence, formatMilliseconds, formatNumber, formatPercent,
  say,
} from "./words.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

/** `onLight(index or null)` hears which row is pointed at or focused, `onZoom(index)` of a click on it. */
export function createReport({ onLight, onZoom }) {
  const lines = element("rows");

  /** `result` is the service's `answer`, with the products that the slider leaves. */
  function render(result, answer) {
    renderWarnings(answer);
    element("count").textContent = shownOf(result, answer);
    element("fill-rate").textContent = formatPercent(answer.fill_rate);
    element("gap-count").textContent = formatNumber(answer.gaps.length);
    element("told").textContent = describeAudit(answer);
    renderConfidence(result, answer);
    renderRows(result);
    element("time").textContent = say("countedIn", { time: formatMilliseconds(answer.timings_ms) });
    element("model").textContent = `${answer.model.name}, ${answer.model.precision}`;
  }

  /** The count that the fill rate belongs to stays in sight. */
  function shownOf(result, answer) {
    if (result.count === answer.count) return formatNumber(answer.count);
    return say("shownOf", { shown: result.count, count: answer.count });
  }

  function renderWarnings({ warnings = [], truncated }) {
    const told = warnings.map(describeWarning);
    if (truncated && !warnings.some(({ code }) => code === "truncated")) told.push(describeWarning({ code: "truncated" }));
    element("warnings").hidden = told.length === 0;
    element("warnings").replaceChildren(...told.map((textContent) => make("li", { textContent })));
  }

  function renderConfidence(result, answer) {
    const value = formatConfidence(result.thresholds.confidence);
    const shown = say("shownOf", { shown: result.count, count: answer.count });
    element("confidence-value").textContent = `${value} · ${shown}`;
    element("confidence").setAttribute("aria-valuetext", say("sliderValue", { value, shown }));
    element("slider-hint").textContent =
      describeConfidence(result.thresholds.confidence, answer.thresholds.confidence, answer.count);
  }

  /** Lines are reused, so that a focused one stays focused. */
  function renderRows({ rows, gaps }) {
    element("table").hidden = rows.length === 0;
    while (lines.rows.length > rows.length) lines.lastChild.remove();
    while (lines.rows.length < rows.length) lines.append(rowLine(lines.rows.length));
    rows.forEach((row, index) => {
      const [, count, rate, gapCount] = lines.rows[index].cells;
      count.textContent = formatNumber(row.count);
      rate.firstChild.data = formatPercent(row.fill_rate);
      rate.lastChild.value = row.fill_rate;
      gapCount.textContent = formatNumber(gaps.filter((gap) => gap.row === index).length);
    });
  }

  function rowLine(index) {
    const line = make("tr", {});
    const header = make("th", { scope: "row" });
    const button = make("button", { type: "button", textContent: formatNumber(index + 1) });
    button.ariaLabel = say("rowLarger", { row: index + 1 });
    const bar = make("progress", { ariaHidden: "true" }); // the percentage beside it says the same
    header.append(button);
    line.append(header);
    for (let cell = 0; cell < 3; cell += 1) line.insertCell();
    line.cells[2].append("", bar);
    for (const type of ["pointerenter", "focusin"]) line.addEventListener(type, () => onLight(index));
    for (const type of ["pointerleave", "focusout"]) line.addEventListener(type, () => onLight(null));
    button.addEventListener("click", () => onZoom(index));
    return line;
  }

  function light(lit) {
    [...lines.rows].forEach((line, index) => line.classList.toggle("lit", index === lit));
  }

  return { render, light };
}
