// The numbers beside the picture: figures, confidence, and a line of the table for each row.

import {
  describeConfidence, formatConfidence, formatMilliseconds, formatNumber, formatPercent, plural,
} from "./words.js";

const element = (id) => document.getElementById(id);

/** `onLight(index or null)` hears which row is pointed at or focused, `onZoom(index)` of a click on it. */
export function createReport({ onLight, onZoom }) {
  const lines = element("rows");

  /** `found` is the confidence that the service found the picture at. */
  function render(result, found) {
    element("count").textContent = formatNumber(result.count);
    element("fill-rate").textContent = formatPercent(result.fill_rate);
    element("gap-count").textContent = formatNumber(result.gaps.length);
    renderConfidence(result, found);
    element("truncated").hidden = !result.truncated;
    element("truncated").textContent =
      `Only the ${formatNumber(result.thresholds.max_detections)} surest products are counted; this picture has more.`;
    renderRows(result);
    element("time").textContent = `Counted in ${formatMilliseconds(result.timings_ms)}`;
    element("model").textContent = `${result.model.name}, ${result.model.precision}`;
  }

  function renderConfidence({ thresholds, count }, found) {
    const value = formatConfidence(thresholds.confidence);
    element("confidence-value").textContent = value;
    element("confidence").setAttribute("aria-valuetext", `${value}, ${plural(count, "product")}`);
    element("slider-hint").textContent = describeConfidence(thresholds.confidence, found);
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
    const line = document.createElement("tr");
    const header = document.createElement("th");
    header.scope = "row";
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: formatNumber(index + 1) });
    button.ariaLabel = `Row ${formatNumber(index + 1)}, show it larger`;
    const bar = document.createElement("progress");
    bar.ariaHidden = "true"; // the percentage beside it says the same
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
