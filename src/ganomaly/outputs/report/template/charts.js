// The histogram of scores and the ROC curve, as inline SVG.

const MARGIN = { left: 44, right: 10, top: 18, bottom: 22 };
const HISTOGRAM_HEIGHT = 200;
const ROC_SIZE = 204;
const MIN_LABEL_DISTANCE = 46;
const MAX_ROC_POINTS = 1500;

function svg(tag, attributes = {}, ...children) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

// the groups of the histogram; images without labels are coloured by their verdict
const series = [
  { name: "Calibration (normal)", scores: groups.calibration, style: "calibration" },
  ...(isLabelled
    ? [
        { name: "Normal", scores: groups.normal, style: "normal" },
        { name: "Anomalous", scores: groups.anomalous, style: "anomalous" },
        { name: "Without label", scores: groups.unlabelled, style: "unlabelled" },
      ]
    : [
        { name: "Called normal", scores: groups.all, style: "normal", side: "below" },
        { name: "Called anomalous", scores: groups.all, style: "anomalous", side: "above" },
      ]),
].filter((group) => group.scores.length > 0);

function binned(scores, nBins) {
  const shares = new Array(nBins).fill(0);
  for (const score of scores) shares[binOf(score, nBins)] += 1 / scores.length;
  return shares;
}

// the smallest of 1, 2, 5, 10, 20, … that is not below `rough`
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= rough);
}

// the roundest first, so that they get the labels where space is short
function ticks() {
  const values = [];
  if (scale.isLog) {
    const lowest = Math.floor(Math.log10(scale.low));
    const digits = scale.high / scale.low < 30 ? [1, 2, 5, 3, 4, 6, 7, 8, 9] : [1, 2, 5];
    for (const digit of digits) {
      for (let power = lowest; power <= Math.log10(scale.high); power++) values.push(Number(`${digit}e${power}`));
    }
  } else {
    const step = niceStep((scale.high - scale.low) / 7);
    for (let k = Math.ceil(scale.low / step); k * step <= scale.high; k++) values.push(Number((k * step).toPrecision(12)));
  }
  return values.filter((value) => value >= scale.low && value <= scale.high);
}

// one outline for each run of bins that are not empty
function stepPath(shares, x, y) {
  let path = "";
  shares.forEach((share, bin) => {
    if (share === 0) return;
    if (!shares[bin - 1]) path += `M${x(bin / shares.length)},${y(0)}`;
    path += `V${y(share)}H${x((bin + 1) / shares.length)}`;
    if (!shares[bin + 1]) path += `V${y(0)}`;
  });
  return path;
}

const binOf = (score, nBins) => Math.min(Math.floor(scale.share(score) * nBins), nBins - 1);

// the threshold; or an end of its bin, where all images of the bin are on one side of it
function shareWhereColourChanges(threshold, nBins) {
  const bin = binOf(threshold, nBins);
  const inBin = groups.all.filter((score) => binOf(score, nBins) === bin);
  if (!inBin.some((score) => score > threshold)) return (bin + 1) / nBins;
  if (!inBin.some((score) => score <= threshold)) return bin / nBins;
  return scale.share(threshold);
}

function drawHistogram(holder, threshold) {
  const width = Math.max(holder.clientWidth, 240);
  const inner = { width: width - MARGIN.left - MARGIN.right, bottom: HISTOGRAM_HEIGHT - MARGIN.bottom };
  const nBins = Math.min(Math.max(Math.round(inner.width / 11), 20), 80);
  const shares = series.map((group) => binned(group.scores, nBins));
  const top = Math.max(...shares.flat());
  const x = (share) => +(MARGIN.left + share * inner.width).toFixed(1);
  const y = (share) => +(inner.bottom - (share / top) * (inner.bottom - MARGIN.top)).toFixed(1);

  const axis = svg("g", { class: "axis" });
  const labelled = [];
  for (const value of ticks()) {
    const at = x(scale.share(value));
    axis.append(svg("line", { x1: at, x2: at, y1: inner.bottom, y2: inner.bottom + 4 }));
    if (labelled.some((other) => Math.abs(other - at) < MIN_LABEL_DISTANCE)) continue;
    labelled.push(at);
    axis.append(svg("text", { x: at, y: inner.bottom + 16, "text-anchor": "middle" }, formatScore(value)));
  }
  const shareStep = niceStep(top / 4.5);
  for (let share = shareStep; share <= top; share += shareStep) {
    axis.append(svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }));
    axis.append(svg("text", { x: MARGIN.left - 6, y: y(share) + 4, "text-anchor": "end" }, formatPercent(share)));
  }
  axis.append(svg("line", { x1: x(0), x2: x(1), y1: inner.bottom, y2: inner.bottom }));

  const drawing = svg("svg", {
    width, height: HISTOGRAM_HEIGHT, viewBox: `0 0 ${width} ${HISTOGRAM_HEIGHT}`, role: "img",
    "aria-label": "Histogram: share of each group of images by anomaly score, with the threshold as a line",
  });
  const clips = { below: svg("rect", { height: HISTOGRAM_HEIGHT }), above: svg("rect", { height: HISTOGRAM_HEIGHT }) };
  for (const [side, rectangle] of Object.entries(clips)) drawing.append(svg("clipPath", { id: `clip-${side}` }, rectangle));
  drawing.append(axis);
  series.forEach((group, n) => {
    const path = svg("path", { class: `area ${group.style}`, d: stepPath(shares[n], x, y) });
    if (group.side) path.setAttribute("clip-path", `url(#clip-${group.side})`);
    drawing.append(path);
  });
  const atPhi = x(scale.share(numbers.threshold));
  drawing.append(svg("line", { class: "phi", x1: atPhi, x2: atPhi, y1: MARGIN.top, y2: inner.bottom }));
  drawing.append(svg("text", { class: "phi-label", x: atPhi, y: MARGIN.top - 6, "text-anchor": "middle" }, "φ"));
  const line = svg("line", { class: "threshold-line", y1: MARGIN.top, y2: HISTOGRAM_HEIGHT - MARGIN.bottom + 6 });
  drawing.append(line);
  holder.replaceChildren(drawing);

  const moveTo = (moved) => {
    const at = x(scale.share(moved));
    line.setAttribute("x1", at);
    line.setAttribute("x2", at);
    const edge = x(shareWhereColourChanges(moved, nBins));
    clips.below.setAttribute("width", edge);
    clips.above.setAttribute("x", edge);
    clips.above.setAttribute("width", Math.max(width - edge, 0));
  };
  moveTo(threshold);
  return moveTo;
}

function fillLegend(list) {
  const log = scale.isLog ? ", logarithmic" : "";
  list.append(element("li", {}, `Share of each group by anomaly score A(x)${log}`));
  for (const group of series) {
    list.append(element("li", {}, element("span", { className: `swatch ${group.style}` }), group.name));
  }
}

function rocPoint(threshold) {
  return [
    countAbove(groups.normal, threshold) / groups.normal.length,
    countAbove(groups.anomalous, threshold) / groups.anomalous.length,
  ];
}

function drawRoc(holder, threshold) {
  const pad = { left: 42, bottom: 30, top: 8, right: 8 };
  const side = ROC_SIZE;
  const x = (share) => +(pad.left + share * side).toFixed(1);
  const y = (share) => +(pad.top + (1 - share) * side).toFixed(1);
  const size = { width: side + pad.left + pad.right, height: side + pad.top + pad.bottom };
  const drawing = svg("svg", {
    ...size, viewBox: `0 0 ${size.width} ${size.height}`, role: "img",
    "aria-label": "ROC curve: detection rate against false-alarm rate",
  });
  const axis = svg("g", { class: "axis" });
  for (const share of [0, 0.5, 1]) {
    axis.append(svg("line", { class: "grid", x1: x(share), x2: x(share), y1: y(0), y2: y(1) }));
    axis.append(svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }));
    const anchor = share === 1 ? "end" : share === 0 ? "start" : "middle";
    axis.append(svg("text", { x: x(share), y: y(0) + 14, "text-anchor": anchor }, `${100 * share} %`));
    if (share > 0) axis.append(svg("text", { x: x(0) - 5, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
  }
  axis.append(svg("text", { x: x(0.5), y: y(0) + 27, "text-anchor": "middle" }, "false-alarm rate"));
  const upright = { x: 0, y: 0, transform: `translate(10 ${y(0.25)}) rotate(-90)`, "text-anchor": "middle" };
  axis.append(svg("text", upright, "detection rate"));
  axis.append(svg("line", { class: "chance", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));

  const every = Math.ceil(groups.all.length / MAX_ROC_POINTS);
  const path = [];
  for (let k = groups.all.length - 1; k >= 0; k -= every) path.push(rocPoint(groups.all[k]));
  path.push([1, 1]);
  const curve = path.map(([fpr, tpr]) => `${x(fpr)},${y(tpr)}`).join("L");
  const point = svg("circle", { class: "operating-point", r: 5 });
  drawing.append(axis, svg("path", { class: "roc-curve", d: `M${x(0)},${y(0)}L${curve}` }), point);
  holder.replaceChildren(drawing);

  const moveTo = (moved) => {
    const [fpr, tpr] = rocPoint(moved);
    point.setAttribute("cx", x(fpr));
    point.setAttribute("cy", y(tpr));
  };
  moveTo(threshold);
  return moveTo;
}
