// Cards of images: filtered, sorted, and made only when they come into view.

const CHUNK = 48;
let pictures = null; // parsed when the first card is made

const gallery = { rows: [], made: 0, threshold: numbers.threshold };

function thumbnailsOf(row) {
  pictures ??= JSON.parse(byId("thumbnails").textContent);
  return pictures.by_row[row] ?? null;
}

// pictures up to 127 pixels were not resampled: their pixels are shown as they are
function figureOf([name, width, height, uri]) {
  const image = element("img", {
    src: uri, width, height, alt: pictures.names[name], decoding: "async",
    className: Math.max(width, height) < 128 ? "crisp" : "",
  });
  return element("span", { className: "picture" }, image, element("span", { className: "caption" }, pictures.names[name]));
}

const BADGES = {
  found: ["Anomalous", "anomalous"],
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

// what the label says: the kind, marked like the verdicts; without a label the kind alone, if there is one
function truthOf(row) {
  const label = numbers.labelled_anomalous[row];
  const kind = kindOf(row);
  if (label === null) return kind;
  const truth = label ? "anomalous" : "normal";
  const mark = element("span", { className: `mark ${truth}`, title: `labelled ${truth}` });
  const spoken = kind === truth ? "" : element("span", { className: "visually-hidden" }, `${truth}: `);
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
  const shown = thumbnailsOf(row);
  const panels = element("span", { className: "pictures" });
  if (shown) panels.append(...shown.map(figureOf));
  else panels.append(element("span", { className: "no-picture" }, "no picture kept"));
  const truth = truthOf(row);
  const head = element("span", { className: "card-head" }, badgeOf(row));
  if (truth !== null) head.append(element("span", { className: "truth" }, isLabelled ? "label " : "", truth));
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

function makeMore() {
  const until = Math.min(gallery.made + CHUNK, gallery.rows.length);
  const made = [];
  for (let position = gallery.made; position < until; position++) made.push(cardOf(gallery.rows[position], position));
  byId("cards").append(...made);
  gallery.made = until;
}

const watcher = new IntersectionObserver((seen) => {
  if (!seen.some((entry) => entry.isIntersecting) || gallery.made >= gallery.rows.length) return;
  makeMore();
  // asked again, since the end may still be in view
  watcher.unobserve(byId("more"));
  watcher.observe(byId("more"));
}, { rootMargin: "900px" });

// margin from the threshold on the chart's scale, negative where the verdict is wrong
function margin(row) {
  const distance = Math.abs(scale.share(numbers.score[row]) - scale.share(gallery.threshold));
  const said = outcome(row, gallery.threshold);
  return said === "miss" || said === "false alarm" ? -1 - distance : distance;
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
  anomalous: (said) => said === "anomalous" || said === "found" || said === "false alarm",
  normal: (said) => said === "normal" || said === "miss",
  "false alarm": (said) => said === "false alarm",
  miss: (said) => said === "miss",
};

function showGallery() {
  const kind = byId("kind").value;
  const isWanted = VERDICTS[byId("verdict").value];
  const words = byId("search").value.toLowerCase();
  const rows = [];
  for (let row = 0; row < nImages; row++) {
    if (kind && kindOf(row) !== kind.slice(1)) continue;
    if (!isWanted(outcome(row, gallery.threshold))) continue;
    if (words && !numbers.path[row].toLowerCase().includes(words)) continue;
    rows.push(row);
  }
  gallery.rows = rows.sort(ORDERS[byId("sort").value]);
  gallery.made = 0;
  byId("cards").replaceChildren();
  makeMore();
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
  const truth = truthOf(row);
  byId("enlarged-path").replaceChildren(...pathOf(row));
  byId("enlarged-position").textContent = `${formatCount(position + 1)} of ${formatCount(gallery.rows.length)}`;
  byId("enlarged-panels").replaceChildren(...(thumbnailsOf(row) ?? []).map(figureOf));
  const items = [["verdict", badgeOf(row)], ...facts(row)];
  if (truth !== null) items.splice(1, 0, [isLabelled ? "label" : "kind", truth]);
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
  // a leading mark keeps a kind with an empty name apart from "all"
  fillSelect(byId("kind"), [["", "All kinds"], ...kinds.map(([kind, n]) => [`=${kind}`, `${kind} (${formatCount(n)})`])]);
  byId("kind-control").hidden = kinds.length === 0;
  const labelled = (option) => (isLabelled ? [option] : []);
  fillSelect(byId("verdict"), [["all", "All"], ["anomalous", "Called anomalous"], ["normal", "Called normal"],
    ...labelled(["false alarm", "False alarms"]), ...labelled(["miss", "Misses"])]);
  fillSelect(byId("sort"), [["worst", "Highest score first"], ["best", "Lowest score first"],
    ...labelled(["surprising", "Most surprising first"]), ["path", "Path"], ...(kinds.length ? [["kind", "Kind"]] : [])]);

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
  watcher.observe(byId("more"));

  const nKept = Object.keys(JSON.parse(byId("thumbnails").textContent).by_row).length;
  byId("cut").hidden = nKept >= nImages;
  byId("cut").textContent =
    `There are pictures of ${formatCount(nKept)} of the ${countOf(nImages, "image")}: the highest scores` +
    `${isLabelled ? " and anomalous images with the lowest" : ""}. Every image counts in the numbers.`;
}
