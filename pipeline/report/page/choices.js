"use strict";
// The data of the page, the two rows being looked at, and small helpers for building elements.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = new Map(DATA.rows.filter((row) => row.ran).map((row) => [row.name, row]));
const SVG = "http://www.w3.org/2000/svg";

// element("p", {class: "x"}, "text", child): attributes as given, children appended, text never parsed as HTML
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

// [{side: "a", row}, {side: "b", row}]: the rows chosen; one entry where nothing stands beside
function chosenRows() {
  return ["a", "b"]
    .map((side) => ({ side, row: ROWS.get(document.getElementById(`row-${side}`).value) }))
    .filter((entry) => entry.row);
}

function offerRows() {
  const names = [...ROWS.keys()];
  const first = names.includes(DATA.baseline) ? DATA.baseline : names[0];
  const best = names.filter((name) => name !== first).sort((x, y) => ROWS.get(y).mean - ROWS.get(x).mean)[0];
  const options = names.map((name) => [name, ROWS.get(name).label]);
  fill(document.getElementById("row-a"), options, first);
  fill(document.getElementById("row-b"), [["", "nothing"], ...options], best || "");
}
