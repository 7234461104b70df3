// The numbers of the report, and what follows from a threshold.

const byId = (id) => document.getElementById(id);
const numbers = JSON.parse(byId("numbers").textContent);
const nImages = numbers.score.length;
const isLabelled = numbers.labelled_anomalous.some((label) => label !== null);

// sorted scores of a group, so that counting those above a threshold takes no time
const sortedScores = (isMember) => Float64Array.from(numbers.score.filter((_, row) => isMember(row))).sort();
const groups = {
  all: sortedScores(() => true),
  normal: sortedScores((row) => numbers.labelled_anomalous[row] === false),
  anomalous: sortedScores((row) => numbers.labelled_anomalous[row] === true),
  unlabelled: sortedScores((row) => numbers.labelled_anomalous[row] === null),
  calibration: Float64Array.from(numbers.calibration_scores),
};

function countAbove(sorted, threshold) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > threshold) high = middle;
    else low = middle + 1;
  }
  return sorted.length - low;
}

function kindOf(row) {
  if (numbers.kind[row] !== null) return numbers.kind[row];
  if (numbers.labelled_anomalous[row] === null) return null;
  return numbers.labelled_anomalous[row] ? "anomalous" : "normal";
}

// with a label "detected", "miss", "false alarm" or "normal"; without one "anomalous" or "normal"
function outcome(row, threshold) {
  const called = numbers.score[row] > threshold;
  const label = numbers.labelled_anomalous[row];
  if (label === null) return called ? "anomalous" : "normal";
  if (label) return called ? "detected" : "miss";
  return called ? "false alarm" : "normal";
}

// false-alarm rate of a threshold: the largest p-value that is still called anomalous
function calibratedRate(threshold) {
  return (1 + countAbove(groups.calibration, threshold)) / (1 + groups.calibration.length);
}

// The score axis: maps scores to positions from 0 to 1 and back; logarithmic if the scores span decades.
const scale = (() => {
  const values = [...groups.all, ...groups.calibration, numbers.threshold];
  let low = values.reduce((a, b) => Math.min(a, b));
  let high = values.reduce((a, b) => Math.max(a, b));
  const isLog = low > 0 && high / numbers.threshold > 6;
  if (isLog) low = Math.max(low, numbers.threshold / 1e4);
  const [forward, back] = isLog ? [Math.log, Math.exp] : [(v) => v, (v) => v];
  const room = 0.02 * (forward(high) - forward(low)) || 0.5 * Math.abs(forward(high)) || 1;
  const from = isLog || low < 0 ? forward(low) - room : Math.max(forward(low) - room, 0);
  const to = forward(high) + room;
  return {
    isLog,
    low: back(from),
    high: back(to),
    share: (value) => (isLog && value <= 0 ? 0 : Math.min(Math.max((forward(value) - from) / (to - from), 0), 1)),
    value: (share) => back(from + share * (to - from)),
  };
})();

const formatScore = (value) => {
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
};
const formatCount = (count) => count.toLocaleString("en");
const countOf = (count, thing) => `${formatCount(count)} ${thing}${count === 1 ? "" : "s"}`;
const formatPercent = (share) => {
  const percent = 100 * share;
  const digits = percent !== 0 && percent < 0.1 ? 2 : 1;
  return `${Number(percent.toFixed(digits))} %`;
};
const formatFigure = (value) => (value === null ? "–" : value.toFixed(3));

// an element with properties (not for dataset) and children; text is never parsed as HTML
function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}
