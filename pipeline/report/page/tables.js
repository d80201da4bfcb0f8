// Tables that a reader sorts and cuts down: a click on a head sorts, a list of ticks chooses the columns.

const ALWAYS = 4; // columns at the left that are never left out by themselves: what a line is, and its score
const UNITS = { h: 3600, min: 60, s: 1 };

// The number that a cell begins with, durations in seconds; null if it begins with none.
function numberOf(text) {
  const duration = [...text.matchAll(/(\d[\d.]*) (h|min|s)\b/g)];
  if (duration.length) return duration.reduce((sum, [, value, unit]) => sum + Number(value) * UNITS[unit], 0);
  const found = text.replaceAll(",", "").match(/^[-+]?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
}

// Lines without a number stay last in either direction; equal ones keep the order that they were written in.
function sortLines(lines, column, falling) {
  const key = (line) => line.cells[column].textContent.trim();
  const numeric = lines.some((line) => numberOf(key(line)) !== null);
  const keyed = lines.map((line) => [numeric ? numberOf(key(line)) : key(line), line]);
  const compare = (x, y) => {
    if (x === null || y === null) return (x === null) - (y === null);
    return (numeric ? x - y : x.localeCompare(y)) * (falling ? -1 : 1);
  };
  return keyed.sort(([x], [y]) => compare(x, y)).map(([, line]) => line);
}

function makeSortable(table) {
  const written = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const steps = [null, "descending", "ascending"]; // best first, worst first, as written
      const next = steps[(steps.indexOf(head.getAttribute("aria-sort")) + 1) % steps.length];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      table.tBodies[0].append(...(next ? sortLines(written, column, next === "descending") : written));
    });
  });
}

function showColumn(table, column, shown) {
  for (const line of table.rows) line.cells[column].hidden = !shown;
}

// Leaves out the columns that do not fit, of those after the first ones and before the last, from the right.
function offerColumns(frame, table) {
  const heads = [...table.tHead.rows[0].cells];
  const fits = () => table.offsetWidth <= frame.clientWidth;
  const left = [];
  for (let column = heads.length - 2; column >= ALWAYS && !fits(); column -= 1) {
    showColumn(table, column, false);
    left.push(column);
  }
  const summary = element("summary");
  const count = () => {
    const shown = heads.filter((head) => !head.hidden).length;
    summary.textContent = shown === heads.length ? `All ${shown} columns` : `${shown} of ${heads.length} columns`;
  };
  const ticks = heads.slice(1).map((head, index) => {
    const tick = element("input", { type: "checkbox" });
    tick.checked = !head.hidden;
    tick.addEventListener("change", () => {
      showColumn(table, index + 1, tick.checked);
      count();
    });
    return element("label", {}, tick, head.textContent);
  });
  count();
  if (left.length) frame.before(element("details", { class: "columns" }, summary, element("div", {}, ...ticks)));
}

function makeTables() {
  for (const frame of document.querySelectorAll(".results")) {
    const table = frame.querySelector("table");
    makeSortable(table);
    offerColumns(frame, table);
  }
}
