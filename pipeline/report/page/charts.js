// Scores by class, confusion, reliability and training curves of the chosen runs.

// Kinds of probabilities, the titles of their plots, and what their marks count.
const RELIABILITY = [
  ["event", "Probability that the segment holds an event", "segments"],
  ["label", "Probability of the label that was given", "segments"],
  ["detection", "Score of a detection, right if it finds an event at an overlap of 0.5", "detections"],
];

function drawCharts(chosen) {
  const put = (id, nodes) => document.getElementById(id)?.replaceChildren(...nodes); // a part that no run has data for is not there
  put("class-bars", [classBars(chosen)]);
  put("confusion-tables", chosen.map(confusionTable));
  const plots = RELIABILITY.flatMap(([kind, title, what]) => reliabilityPlot(chosen, kind, title, what) || []);
  put("reliability-plots", plots.length ? plots : [nothing("These runs have no stored probabilities.")]);
  const headlines = new Set(chosen.map(({ run }) => run.headline));
  const headline = headlines.size === 1 ? chosen[0].run.headline : "each run's main score";
  put("training-plots", [curvePlot(chosen, "validation", `Validation, ${headline}`), curvePlot(chosen, "loss", "Training loss")]);
}

function nothing(text) {
  return element("p", {}, text);
}

function classBars(chosen) {
  const known = chosen.filter(({ run }) => run.classScores);
  const without = chosen.filter((entry) => !known.includes(entry)).map(({ run }) => nothing(`${run.name}: the task ${run.task} has no single score by class.`));
  if (!known.length) return element("div", {}, ...without);
  const head = element("tr", {}, element("th", { scope: "col", class: "words" }, "Class"));
  for (const { side, run } of known) {
    head.append(element("th", { scope: "col" }, sign(side), ...breaking(`${run.name}, ${run.classScores.name}`)));
  }
  const scored = Math.max(...known.map(({ run }) => run.classScores.values.length));
  const lines = DATA.classes.slice(0, scored).map((name, label) => {
    const line = element("tr", {}, element("th", { scope: "row" }, name));
    for (const { side, run } of known) line.append(element("td", {}, bar(side, run.classScores.values[label])));
    return line;
  });
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  makeSortable(table);
  const bars = element("div", { class: "bars scroll", tabindex: "0", role: "region", "aria-label": "Bars by class" }, table);
  return element("div", {}, bars, ...without);
}

function bar(side, value) {
  if (value === undefined) return element("span", {}, "–");
  if (value === null) return element("span", {}, "not in test");
  const track = element("span", { class: "track" }, element("i", { style: `width: ${value}%` }));
  return element("div", { class: `bar ${side}` }, track, element("b", {}, value.toFixed(1)));
}

function confusionTable({ side, run }) {
  if (!run.confusion) return nothing(`${run.name}: the task ${run.task} has no confusion matrix.`);
  const head = element("tr", {}, element("td", {}));
  for (const name of DATA.classes) head.append(element("th", { scope: "col", class: "name" }, name));
  const lines = run.confusion.map((counts, truth) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const line = element("tr", {}, element("th", { scope: "row" }, DATA.classes[truth]));
    counts.forEach((count, label) => {
      const share = total ? count / total : 0;
      const shade = `background: rgba(var(--heat), ${(0.6 * share).toFixed(3)})`;
      line.append(element("td", { style: shade, class: truth === label ? "diagonal" : "" }, share >= 0.005 ? String(Math.round(100 * share)) : ""));
    });
    return line;
  });
  const table = element("table", { class: "confusion" }, element("thead", {}, head), element("tbody", {}, ...lines));
  const region = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Confusion of ${run.name}` }, table);
  return element("div", {}, element("h3", {}, sign(side), ...breaking(run.name)), region);
}

// A plot's frame with grid and ticks; returns the svg and the functions from data to drawing coordinates.
function frame(label, xRange, yRange, xTitle, yTitle) {
  const box = { left: 52, right: 410, top: 10, bottom: 240 };
  const x = (value) => box.left + ((value - xRange[0]) / (xRange[1] - xRange[0] || 1)) * (box.right - box.left);
  const y = (value) => box.bottom - ((value - yRange[0]) / (yRange[1] - yRange[0] || 1)) * (box.bottom - box.top);
  const svg = drawn("svg", { viewBox: "0 0 420 285", role: "img", "aria-label": label });
  for (const tick of ticks(yRange)) {
    svg.append(drawn("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
    svg.append(drawn("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, shortNumber(tick)));
  }
  for (const tick of ticks(xRange)) {
    svg.append(drawn("line", { class: "axis", x1: x(tick), x2: x(tick), y1: box.bottom, y2: box.bottom + 4 }));
    svg.append(drawn("text", { x: x(tick), y: box.bottom + 17, "text-anchor": "middle" }, shortNumber(tick)));
  }
  svg.append(drawn("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  svg.append(drawn("text", { x: (box.left + box.right) / 2, y: 278, "text-anchor": "middle" }, xTitle));
  svg.append(drawn("text", { transform: "translate(12 125) rotate(-90)", "text-anchor": "middle" }, yTitle));
  return { svg, x, y };
}

function ticks([low, high]) {
  const rough = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((candidate) => candidate >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9; tick += step) found.push(tick);
  return found;
}

function shortNumber(value) {
  return String(Number(value.toPrecision(6)));
}

function points(list) {
  return list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
}

function reliabilityPlot(chosen, kind, title, what) {
  const known = chosen.filter(({ run }) => run.reliability && run.reliability[kind]);
  if (!known.length) return null;
  const ends = known.map(({ side, run }) => [side, `${run.name}: expected calibration error ${run.reliability[kind].error.toFixed(1)} %`]);
  const { svg, x, y } = frame(spokenTitle(title, ends), [0, 1], [0, 1], "probability", "share that is right");
  svg.append(drawn("line", { class: "axis", x1: x(0), y1: y(0), x2: x(1), y2: y(1), "stroke-dasharray": "2 3" }));
  for (const { side, run } of known) {
    const bins = run.reliability[kind].bins;
    const most = Math.max(...bins.map(([, , count]) => count));
    const places = bins.map(([confidence, share]) => [x(confidence), y(share)]);
    svg.append(drawn("g", { class: side }, drawn("polyline", { class: "line", points: points(places) })));
    bins.forEach(([, , count], position) => svg.append(mark(side, places[position], 2 + 5 * Math.sqrt(count / most))));
  }
  return element("figure", {}, element("h3", {}, title), svg, caption(ends, `Larger marks: more ${what}.`));
}

function spokenTitle(title, ends) {
  return `${title}. ${ends.map(([, text]) => text).join("; ")}`;
}

// What a plot ends in, one line for each run with its sign, so that the plot is read without looking elsewhere.
function caption(ends, further = "") {
  return element("figcaption", {}, ...ends.map(([side, text]) => element("div", {}, sign(side), ...breaking(text))), further);
}

// Discs for run A and squares for run B, so that they differ without colour too.
function mark(side, [x, y], radius) {
  if (side === "a") return drawn("circle", { class: "a point", cx: x, cy: y, r: radius });
  return drawn("rect", { class: "b point", x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius });
}

function curvePlot(chosen, kind, title) {
  const known = chosen.filter(({ run }) => run.curves[kind] && run.curves[kind].length);
  if (!known.length) return nothing(`${title}: not recorded.`);
  const all = known.flatMap(({ run }) => run.curves[kind]);
  const values = all.flatMap(([, , low, high]) => [low, high]);
  const range = [Math.min(...values), Math.max(...values)];
  const metric = (run) => (kind === "validation" ? `${run.headline} ` : "");
  const ends = known.map(({ side, run }) => [side, `${run.name}: ${metric(run)}${shortNumber(Number(run.curves[kind].at(-1)[1].toPrecision(4)))} at the end`]);
  const { svg, x, y } = frame(spokenTitle(title, ends), [0, Math.max(...all.map(([epoch]) => epoch))], range, "epoch", title);
  for (const { side, run } of known) {
    const curve = run.curves[kind];
    const band = [...curve.map(([epoch, , low]) => [x(epoch), y(low)]), ...[...curve].reverse().map(([epoch, , , high]) => [x(epoch), y(high)])];
    const line = curve.map(([epoch, mean]) => [x(epoch), y(mean)]);
    svg.append(drawn("g", { class: side }, drawn("polygon", { class: "band", points: points(band) }), drawn("polyline", { class: "line", points: points(line) })));
  }
  return element("figure", {}, element("h3", {}, title), svg, caption(ends));
}
