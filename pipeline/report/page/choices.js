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

// Offers [value, text] pairs; those with a third entry stand below it as their group.
function fill(select, options, chosen) {
  const groups = new Map();
  const parts = [];
  for (const [value, text, group] of options) {
    const option = element("option", { value }, text);
    if (!group) parts.push(option);
    else if (groups.has(group)) groups.get(group).append(option);
    else parts.push(groups.set(group, element("optgroup", { label: group }, option)).get(group));
  }
  select.replaceChildren(...parts);
  select.value = chosen;
}

// A name that may break after an underscore.
function breaking(text) {
  return text.split(/(?<=_)/).flatMap((part, place) => (place ? [element("wbr"), part] : [part]));
}

// The sign of a chosen run: a disc for the first, a square for the second.
function sign(side) {
  return element("span", { class: `sign ${side}` });
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
  const task = (name) => RUNS.get(name).task;
  const others = names.filter((name) => name !== first && task(name) === task(first)); // scores of two tasks cannot be compared
  const best = others.sort((x, y) => RUNS.get(y).mean - RUNS.get(x).mean)[0];
  const several = new Set(names.map(task)).size > 1;
  const options = names.map((name) => [name, RUNS.get(name).label, several && task(name)]);
  fill(document.getElementById("run-a"), options, first);
  fill(document.getElementById("run-b"), [["", "nothing"], ...options], best || "");
}
