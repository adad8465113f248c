// The list of places to fill, and that of differences to a reference: pure functions. tests/refill.test.js runs them in
// node.

import { describePlace, describePlaces, say } from "./words.js";

/** The third of the picture that a box's middle lies in; a person in front of the shelf sees the same. */
export function thirdOf([left, , right], width) {
  return ["left", "middle", "right"][Math.min(2, Math.max(0, Math.floor((1.5 * (left + right)) / width)))];
}

/** A result's gaps as a walk along the shelf: rows from the top, each from the left, whole facings, numbered from 1. */
export function placesToFill({ gaps, image }) {
  return [...gaps]
    .sort((a, b) => a.row - b.row || a.xyxy[0] - b.xyxy[0])
    .map((gap, index) => ({
      ...gap,
      number: index + 1,
      facings: Math.max(1, Math.round(gap.facings)),
      third: thirdOf(gap.xyxy, image.width),
      id: [gap.row, ...gap.xyxy].join(" "),
    }));
}

/** The list as text, for a message; `filled` holds the ids of what is ticked off. */
export function listAsText(title, places, filled) {
  const lines = places.map((place) =>
    `${filled.has(place.id) ? "☑" : "☐"} ${describePlace(place)}: ${say("facings", { count: place.facings })}`);
  return [title, describePlaces(places), ...lines].join("\n");
}

/** What is not as the reference has it, `{ kind, row, third, label, xyxy, from }`, row by row; `from` of what moved. */
export function differencesOf({ compliance, image, detections }) {
  const all = [
    ...compliance.missing.map((slot) => ({ kind: "missing", ...slot })),
    ...compliance.extra.map((slot) => ({ kind: "extra", ...slot })),
    ...compliance.moved.map(({ row, slot, xyxy }) => ({ kind: "moved", row, xyxy: slot, from: xyxy })),
  ];
  return all
    .sort((a, b) => a.row - b.row || a.xyxy[0] - b.xyxy[0])
    .map(({ label, ...difference }) => ({ ...difference, third: thirdOf(difference.xyxy, image.width), ...named(label, detections) }));
}

/** A model of one class calls everything the same, which names nothing. */
function named(label, detections) {
  return label && detections.some((detection) => detection.label !== label) ? { label } : {};
}

/** A counted picture as the reference of another one: what the service needs of its answer. */
export function asReference({ image, detections }) {
  const { width, height } = image;
  return { image: { width, height }, detections: detections.map(({ xyxy, row, label }) => ({ xyxy, row, label })) };
}
