// Rows, counts and gaps from boxes: function/shelf.py rule for rule, so that they follow the confidence slider without
// asking the service again. tests/test_page.py holds both to the same answers.

const ROW_OVERLAP = 0.5; // a product belongs to a row when it shares half of the lower one's height with it
const GAP_FACINGS = 0.8; // a space counts as a gap from this share of the row's median facing

/** Rows from the top down, their gaps from left to right, and each row's detections. */
export function auditShelf(detections) {
  const members = groupRows(detections);
  const gapsOfRows = members.map(findGaps);
  const rows = members.map((row, index) => describeRow(row, index, gapsOfRows[index]));
  return { rows: rows.map(roundRow), gaps: gapsOfRows.flat().map(roundGap), fill_rate: meanFillRate(rows), members };
}

/** Detections by row, each from left to right; a row's band is the mean of its boxes so far. */
function groupRows(detections) {
  const rows = [];
  let total = null;
  for (const detection of sortBy(detections, ({ xyxy }) => xyxy[1] + xyxy[3])) {
    const row = rows.at(-1);
    if (row && verticalOverlap(total.map((edge) => edge / row.length), detection.xyxy) >= ROW_OVERLAP) {
      row.push(detection);
      total = total.map((edge, i) => edge + detection.xyxy[i]);
    } else {
      rows.push([detection]);
      total = detection.xyxy;
    }
  }
  return rows.map((row) => sortBy(row, ({ xyxy }) => xyxy[0]));
}

/** The height that two boxes share, as a share of the lower one's. */
function verticalOverlap(a, b) {
  const shared = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const lower = Math.min(a[3] - a[1], b[3] - b[1]);
  return lower > 0 ? shared / lower : 0;
}

/** The spaces of at least `GAP_FACINGS` median facings in one row. */
function findGaps(members, row) {
  const boxes = members.map(({ xyxy }) => xyxy);
  const facing = median(boxes.map((box) => box[2] - box[0]));
  const top = median(boxes.map((box) => box[1]));
  const bottom = median(boxes.map((box) => box[3]));
  const gaps = [];
  let start = boxes[0][2]; // the rightmost edge so far: a wide product may reach behind the next one
  for (const [left, , right] of boxes.slice(1)) {
    const facings = (left - start) / facing;
    if (facing > 0 && facings >= GAP_FACINGS) {
      gaps.push({ row, xyxy: [start, top, left, bottom], facings });
    }
    start = Math.max(start, right);
  }
  return gaps;
}

function describeRow(members, index, gaps) {
  const edge = (choose, i) => choose(...members.map(({ xyxy }) => xyxy[i]));
  const xyxy = [edge(Math.min, 0), edge(Math.min, 1), edge(Math.max, 2), edge(Math.max, 3)];
  const empty = gaps.reduce((sum, gap) => sum + gap.xyxy[2] - gap.xyxy[0], 0);
  const width = xyxy[2] - xyxy[0];
  return { index, xyxy, count: members.length, fill_rate: width > 0 ? 1 - empty / width : 1 };
}

/** The rows' fill rates weighed by width; null where there is no row. */
function meanFillRate(rows) {
  const width = ({ xyxy }) => xyxy[2] - xyxy[0];
  const total = rows.reduce((sum, row) => sum + width(row), 0);
  return total > 0 ? round(rows.reduce((sum, row) => sum + row.fill_rate * width(row), 0) / total, 3) : null;
}

/** Pixels and facings in tenths, fill rates in thousandths, as the service writes them. */
function roundRow(row) {
  return { ...row, xyxy: row.xyxy.map((edge) => round(edge, 1)), fill_rate: round(row.fill_rate, 3) };
}

function roundGap(gap) {
  return { ...gap, xyxy: gap.xyxy.map((edge) => round(edge, 1)), facings: round(gap.facings, 1) };
}

function sortBy(items, key) {
  return [...items].sort((a, b) => key(a) - key(b));
}

function median(values) {
  const sorted = sortBy(values, Number);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}
