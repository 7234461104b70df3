// Cards of images: filtered, sorted, and created only when they come into view.

const CHUNK = 48;
let thumbnails = null; // parsed when the first card is created

const gallery = { rows: [], created: 0, threshold: numbers.threshold };

function thumbnailsOf(row) {
  thumbnails ??= JSON.parse(byId("thumbnails").textContent);
  return thumbnails.by_row[row] ?? null;
}

// images up to 127 pixels were not resampled: their pixels are not smoothed
function panelOf([name, width, height, uri]) {
  const image = element("img", {
    src: uri, width, height, alt: thumbnails.names[name], decoding: "async",
    className: Math.max(width, height) < 128 ? "crisp" : "",
  });
  return element("span", { className: "panel-image" }, image, element("span", { className: "caption" }, thumbnails.names[name]));
}

const BADGES = {
  detected: ["Anomalous", "anomalous"],
  anomalous: ["Anomalous", "anomalous"],
  normal: ["Normal", "normal"],
  "false alarm": ["False alarm", "anomalous wrong"],
  miss: ["Miss", "normal wrong"],
};

function badgeOf(row) {
  const [words, style] = BADGES[outcome(row, gallery.threshold)];
  return element("span", { className: `badge ${style}` }, words);
}

function pathOf(row) {
  const path = numbers.path[row];
  const cut = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1;
  return [
    element("span", { className: "folder" }, path.slice(0, cut)),
    element("span", { className: "file" }, path.slice(cut)),
  ];
}

// the kind, marked by its label like the verdicts; the kind alone, or null, where there is no label
function labelOf(row) {
  const labelledAnomalous = numbers.labelled_anomalous[row];
  const kind = kindOf(row);
  if (labelledAnomalous === null) return kind;
  const label = labelledAnomalous ? "anomalous" : "normal";
  const mark = element("span", { className: `mark ${label}`, title: `labelled ${label}` });
  const spoken = kind === label ? "" : element("span", { className: "visually-hidden" }, `${label}: `);
  return element("span", {}, mark, spoken, kind);
}

const valueOrDash = (value, digits) => (value === null ? "–" : digits(value));
const formatP = (value) => (value < 0.001 ? value.toExponential(1) : value.toFixed(3));

function facts(row) {
  return [
    ["A(x)", formatScore(numbers.score[row])],
    ["normalized", valueOrDash(numbers.normalized_score[row], (value) => value.toFixed(2))],
    ["p-value", valueOrDash(numbers.p_value[row], formatP)],
  ];
}

function cardOf(row, position) {
  const images = thumbnailsOf(row);
  const panels = element("span", { className: "panel-images" });
  if (images) panels.append(...images.map(panelOf));
  else panels.append(element("span", { className: "no-image" }, "no image in this report"));
  const label = labelOf(row);
  const head = element("span", { className: "card-head" }, badgeOf(row));
  if (label !== null) head.append(element("span", { className: "card-label" }, isLabelled ? "label " : "", label));
  const line = element("span", { className: "card-facts" });
  for (const [name, value] of facts(row)) {
    line.append(element("span", {}, element("span", { className: "name" }, name), " ", element("b", {}, value)));
  }
  const button = element("button", { type: "button", className: "card", title: numbers.path[row] },
    panels, head, element("span", { className: "path" }, ...pathOf(row)), line);
  button.dataset.row = row;
  button.addEventListener("click", () => enlarge(position));
  return element("li", {}, button);
}

function createMore() {
  const until = Math.min(gallery.created + CHUNK, gallery.rows.length);
  const cards = [];
  for (let position = gallery.created; position < until; position++) cards.push(cardOf(gallery.rows[position], position));
  byId("cards").append(...cards);
  gallery.created = until;
}

const endObserver = new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting) || gallery.created >= gallery.rows.length) return;
  createMore();
  // observed anew, since the end may still be in view
  endObserver.unobserve(byId("more"));
  endObserver.observe(byId("more"));
}, { rootMargin: "900px" });

// margin from the threshold on the chart's scale, negative where the verdict is wrong
function margin(row) {
  const distance = Math.abs(scale.share(numbers.score[row]) - scale.share(gallery.threshold));
  const result = outcome(row, gallery.threshold);
  return result === "miss" || result === "false alarm" ? -1 - distance : distance;
}

const collator = new Intl.Collator("en", { numeric: true });
const byScore = (a, b) => numbers.score[b] - numbers.score[a];
const ORDERS = {
  worst: byScore,
  best: (a, b) => -byScore(a, b),
  surprising: (a, b) => margin(a) - margin(b),
  path: (a, b) => collator.compare(numbers.path[a], numbers.path[b]),
  kind: (a, b) => collator.compare(kindOf(a) ?? "", kindOf(b) ?? "") || byScore(a, b),
};

const VERDICTS = {
  all: () => true,
  anomalous: (result) => result === "anomalous" || result === "detected" || result === "false alarm",
  normal: (result) => result === "normal" || result === "miss",
  "false alarm": (result) => result === "false alarm",
  miss: (result) => result === "miss",
};

function showGallery() {
  const kind = byId("kind").value;
  const matchesVerdict = VERDICTS[byId("verdict").value];
  const words = byId("search").value.toLowerCase();
  const rows = [];
  for (let row = 0; row < nImages; row++) {
    if (kind && kindOf(row) !== kind.slice(1)) continue;
    if (!matchesVerdict(outcome(row, gallery.threshold))) continue;
    if (words && !numbers.path[row].toLowerCase().includes(words)) continue;
    rows.push(row);
  }
  gallery.rows = rows.sort(ORDERS[byId("sort").value]);
  gallery.created = 0;
  byId("cards").replaceChildren();
  createMore();
  byId("shown").textContent =
    rows.length === nImages ? formatCount(nImages) : `${formatCount(rows.length)} of ${formatCount(nImages)}`;
  byId("nothing").hidden = rows.length > 0 || nImages === 0;
  byId("empty").hidden = nImages > 0;
}

function galleryDependsOnThreshold() {
  return byId("verdict").value !== "all" || byId("sort").value === "surprising";
}

function refreshBadges() {
  for (const card of byId("cards").querySelectorAll(".card")) {
    card.querySelector(".badge").replaceWith(badgeOf(Number(card.dataset.row)));
  }
}

// ── one image, enlarged ──

let enlargedPosition = 0;

function enlarge(position) {
  enlargedPosition = position;
  const row = gallery.rows[position];
  const label = labelOf(row);
  byId("enlarged-path").replaceChildren(...pathOf(row));
  byId("enlarged-position").textContent = `${formatCount(position + 1)} of ${formatCount(gallery.rows.length)}`;
  byId("enlarged-panels").replaceChildren(...(thumbnailsOf(row) ?? []).map(panelOf));
  const items = [["verdict", badgeOf(row)], ...facts(row)];
  if (label !== null) items.splice(1, 0, [isLabelled ? "label" : "kind", label]);
  byId("enlarged-facts").replaceChildren(
    ...items.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  byId("previous").disabled = position === 0;
  byId("next").disabled = position === gallery.rows.length - 1;
  if (!byId("enlarged").open) byId("enlarged").showModal();
}

function step(by) {
  const position = enlargedPosition + by;
  if (position >= 0 && position < gallery.rows.length) enlarge(position);
}

function fillSelect(select, options) {
  select.append(...options.map(([value, words]) => element("option", { value }, words)));
}

function startGallery() {
  const counts = new Map();
  for (let row = 0; row < nImages; row++) {
    const kind = kindOf(row);
    if (kind !== null) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const kinds = [...counts].sort(([a], [b]) => collator.compare(a, b));
  // a leading "=" distinguishes a kind with an empty name from "all"
  fillSelect(byId("kind"), [["", "All kinds"], ...kinds.map(([kind, n]) => [`=${kind}`, `${kind} (${formatCount(n)})`])]);
  byId("kind-control").hidden = kinds.length === 0;
  const ifLabelled = (option) => (isLabelled ? [option] : []);
  fillSelect(byId("verdict"), [["all", "All"], ["anomalous", "Called anomalous"], ["normal", "Called normal"],
    ...ifLabelled(["false alarm", "False alarms"]), ...ifLabelled(["miss", "Misses"])]);
  fillSelect(byId("sort"), [["worst", "Highest score first"], ["best", "Lowest score first"],
    ...ifLabelled(["surprising", "Wrong verdicts first"]), ["path", "Path"], ...(kinds.length ? [["kind", "Kind"]] : [])]);

  for (const id of ["kind", "verdict", "sort"]) byId(id).addEventListener("change", showGallery);
  byId("search").addEventListener("input", showGallery);
  byId("clear").addEventListener("click", () => {
    byId("kind").value = "";
    byId("verdict").value = "all";
    byId("search").value = "";
    showGallery();
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => byId("enlarged").close());
  byId("enlarged").addEventListener("click", (event) => {
    if (event.target === byId("enlarged")) byId("enlarged").close(); // the backdrop
  });
  byId("enlarged").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  showGallery();
  endObserver.observe(byId("more"));
  window.addEventListener("beforeprint", () => {
    while (gallery.created < gallery.rows.length) createMore();
  });

  const { names, by_row: byRow } = JSON.parse(byId("thumbnails").textContent);
  const nWithThumbnails = Object.keys(byRow).length;
  byId("overlay-legend").hidden = !names.includes("overlay");
  byId("outline-legend").hidden = !isLabelled;
  byId("thumbnail-limit").hidden = nWithThumbnails >= nImages;
  byId("thumbnail-limit").textContent =
    `This report contains ${formatCount(nWithThumbnails)} of the ${countOf(nImages, "image")}: those with the highest scores` +
    `${isLabelled ? ", and anomalous ones with the lowest" : ""}. The numbers include all images.`;
}
