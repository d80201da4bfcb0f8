"use strict";
// The data of the page, the two chosen runs, and small helpers for building elements.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = new Map(DATA.runs.filter((run) => run.ran).map((run) => [run.name, run]));
const SVG = "http://www.w3.org/2000/svg";

// Builds an element, e.g. element("p", {class: "x"}, "text", child); text is never parsed as HTML.
function element(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") node.style.cssText = value; // the page's policy refuses the attribute
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

// The chosen runs, [{side: "a", run}, {side: "b", run}]; one entry if nothing is chosen beside the first.
function chosenRuns() {
  return ["a", "b"]
    .map((side) => ({ side, run: RUNS.get(document.getElementById(`run-${side}`).value) }))
    .filter((entry) => entry.run);
}

function offerRuns() {
  const names = [...RUNS.keys()];
  const first = names.includes(DATA.baseline) ? DATA.baseline : names[0];
  const best = names.filter((name) => name !== first).sort((x, y) => RUNS.get(y).mean - RUNS.get(x).mean)[0];
  const options = names.map((name) => [name, RUNS.get(name).label]);
  fill(document.getElementById("run-a"), options, first);
  fill(document.getElementById("run-b"), [["", "nothing"], ...options], best || "");
}
