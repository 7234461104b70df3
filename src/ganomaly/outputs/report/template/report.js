// The threshold, and everything that depends on it.

const STEPS = 1000; // of the slider
let moveHistogramTo = () => {};
let moveRocTo = () => {};

const hasBothClasses = groups.normal.length > 0 && groups.anomalous.length > 0;

function tile(name, value, detail, style = "") {
  return element("div", { className: `tile ${style}` },
    element("dt", {}, name), element("dd", {}, value, element("small", {}, detail)));
}

const shareOf = (count, total) => (total ? formatPercent(count / total) : "–");

function showTiles(threshold) {
  const called = countAbove(groups.all, threshold);
  const detected = countAbove(groups.anomalous, threshold);
  const alarms = countAbove(groups.normal, threshold);
  const [nNormal, nAnomalous] = [groups.normal.length, groups.anomalous.length];
  const composition = isLabelled ? `${formatCount(nAnomalous)} anomalous` : "";
  const tiles = [
    tile("Images", formatCount(nImages), composition),
    tile("Called anomalous", formatCount(called), nImages ? `${shareOf(called, nImages)} of images` : "", "live"),
  ];
  tiles[1].id = "tile-called";
  if (isLabelled) {
    const detection = tile("Detection rate", shareOf(detected, nAnomalous), `${formatCount(detected)} of ${formatCount(nAnomalous)} detected`, "live");
    const falseAlarms = tile("False alarms", formatCount(alarms), `${shareOf(alarms, nNormal)} of ${formatCount(nNormal)}`, "live");
    const misses = tile("Misses", formatCount(nAnomalous - detected), `${shareOf(nAnomalous - detected, nAnomalous)} of ${formatCount(nAnomalous)}`, "live");
    [detection.id, falseAlarms.id, misses.id] = ["tile-detection", "tile-false-alarms", "tile-misses"];
    tiles.push(detection, falseAlarms, misses);
    const auroc = numbers.evaluation?.image_auroc ?? null;
    if (auroc !== null) tiles.push(tile("AUROC", formatFigure(auroc), "0.5 is chance"));
  }
  const moved = threshold !== numbers.threshold;
  const calibrated = countOf(groups.calibration.length, `calibration ${numbers.calibration_unit}`);
  const attained = groups.calibration.length ? calibratedRate(numbers.threshold) : 0;
  const tooFew = attained > numbers.false_alarm_rate + 1e-9;
  tiles.push(
    tile("Threshold", formatScore(threshold), moved ? `moved; φ is ${formatScore(numbers.threshold)}` : "φ, set by calibration", "live"),
    tile("False-alarm rate", formatPercent(tooFew ? attained : numbers.false_alarm_rate), tooFew ? `${formatPercent(numbers.false_alarm_rate)} was asked for; ${calibrated} are too few` : `chosen; ${calibrated}`),
  );
  byId("tiles").replaceChildren(...tiles);
}

function showConsequence(threshold) {
  const called = countAbove(groups.all, threshold);
  const parts = [`Above this threshold: ${formatCount(called)} of ${countOf(nImages, "image")}.`];
  if (groups.calibration.length) {
    const rate = calibratedRate(threshold);
    const above = countAbove(groups.calibration, threshold);
    parts.push(` By calibration, ${above ? "about" : "at most"} ${formatPercent(rate)} of ${numbers.calibration_unit === "patient" ? "the images of new normal patients" : "new normal images"} would be false alarms `);
    parts.push(element("span", { className: "nowrap" }, `(p-value ≤ ${formatP(rate)}).`));
  }
  byId("consequence").replaceChildren(...parts);
}

function showKinds(threshold) {
  for (const line of byId("kinds").tBodies[0].rows) {
    const { scores, isAnomalous } = kindsInTable.get(line.dataset.kind);
    const called = countAbove(scores, threshold);
    line.cells[3].textContent = `${formatCount(called)} (${shareOf(called, scores.length)})`;
    const bar = line.cells[4].firstElementChild;
    bar.className = `bar ${isAnomalous ? "anomalous" : "normal"}`;
    bar.style.setProperty("--share", called / scores.length);
  }
}

const kindsInTable = new Map();

function startKinds() {
  if (!isLabelled) return;
  for (const isAnomalous of [true, false]) {
    const byKind = new Map();
    for (let row = 0; row < nImages; row++) {
      if (numbers.labelled_anomalous[row] !== isAnomalous) continue;
      const kind = kindOf(row);
      if (!byKind.has(kind)) byKind.set(kind, []);
      byKind.get(kind).push(numbers.score[row]);
    }
    for (const kind of [...byKind.keys()].sort(collator.compare)) {
      const scores = Float64Array.from(byKind.get(kind)).sort();
      const auroc = isAnomalous ? (numbers.evaluation?.per_kind?.[kind]?.image_auroc ?? null) : null;
      const key = `${isAnomalous}:${kind}`;
      kindsInTable.set(key, { scores, isAnomalous });
      const line = element("tr", {},
        element("th", { scope: "row" }, element("span", { className: `dot ${isAnomalous ? "anomalous" : "normal"}` }), kind),
        element("td", { className: "number" }, formatCount(scores.length)),
        element("td", { className: "number" }, formatFigure(auroc)),
        element("td", { className: "number" }),
        element("td", { className: "bar-cell" }, element("span")));
      line.dataset.kind = key;
      byId("kinds").tBodies[0].append(line);
    }
  }
  byId("kinds-panel").hidden = false;
}

const FIGURES = [
  ["image_auroc", "Image AUROC"],
  ["image_average_precision", "Image average precision"],
  ["image_f1", "Image F1 at φ"],
  ["eer", "Equal error rate"],
  ["fpr_at_95_tpr", "False-alarm rate at 95 % detection"],
  ["false_alarm_rate", "False-alarm rate at φ"],
  ["detection_rate", "Detection rate at φ"],
  ["pixel_auroc", "Pixel AUROC"],
  ["aupro", "AUPRO"],
];

function startFigures() {
  if (!numbers.evaluation) return;
  const lines = FIGURES.filter(([key]) => numbers.evaluation[key] !== null).map(([key, name]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, formatFigure(numbers.evaluation[key]))));
  byId("figures").append(element("tbody", {}, ...lines));
  byId("figures-panel").hidden = false;
}

// `source` is the control that the user moves; its value is left unchanged
function setThreshold(threshold, source = null) {
  gallery.threshold = threshold;
  const slider = byId("slider");
  if (source !== slider) slider.value = Math.round(scale.share(threshold) * STEPS);
  if (source !== byId("threshold")) byId("threshold").value = Number(threshold.toPrecision(6));
  slider.dataset.threshold = String(threshold);
  slider.setAttribute("aria-valuetext", formatScore(threshold));
  byId("reset").disabled = threshold === numbers.threshold;
  moveHistogramTo(threshold);
  moveRocTo(threshold);
  showTiles(threshold);
  showConsequence(threshold);
  showKinds(threshold);
  if (galleryDependsOnThreshold()) showGallerySoon();
  else refreshBadges();
}

let timer = 0;
function showGallerySoon() {
  clearTimeout(timer);
  timer = setTimeout(showGallery, 120);
}

function startThreshold() {
  const slider = byId("slider");
  slider.max = STEPS;
  slider.addEventListener("input", () => setThreshold(scale.value(Number(slider.value) / STEPS), slider));
  byId("threshold").addEventListener("input", (event) => {
    const threshold = event.target.valueAsNumber;
    if (Number.isFinite(threshold)) setThreshold(threshold, event.target);
  });
  byId("reset").addEventListener("click", () => setThreshold(numbers.threshold));
  // the histogram itself can be dragged
  const holder = byId("histogram");
  const follow = (event) => {
    const box = holder.getBoundingClientRect();
    const inside = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    setThreshold(scale.value(Math.min(Math.max(inside, 0), 1)));
  };
  holder.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    holder.setPointerCapture(event.pointerId);
    follow(event);
  });
  holder.addEventListener("pointermove", (event) => {
    if (holder.hasPointerCapture(event.pointerId)) follow(event);
  });
}

function startCharts() {
  fillLegend(byId("legend"));
  new ResizeObserver(() => {
    moveHistogramTo = drawHistogram(byId("histogram"), gallery.threshold);
  }).observe(byId("histogram"));
  if (!hasBothClasses) return;
  byId("roc-figure").hidden = false;
  moveRocTo = drawRoc(byId("roc"), gallery.threshold);
  const auroc = numbers.evaluation?.image_auroc ?? null;
  byId("roc-caption").textContent = auroc === null ? "" : `AUROC ${formatFigure(auroc)}; the ring is the threshold`;
}

startCharts();
startKinds();
startFigures();
startGallery();
startThreshold();
setThreshold(numbers.threshold);
