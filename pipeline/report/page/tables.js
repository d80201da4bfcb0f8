// Tables that a reader sorts and cuts down: a click on a head sorts, ticks choose the columns, words choose the lines.

const UNITS = { h: 3600, min: 60, s: 1 };

// The number that a cell begins with (the lower end of an interval), durations in seconds; null if it begins with none.
function numberOf(text) {
  const duration = [...text.matchAll(/(\d[\d.]*) (h|min|s)\b/g)];
  if (duration.length) return duration.reduce((sum, [, value, unit]) => sum + Number(value) * UNITS[unit], 0);
  const found = text.replaceAll(",", "").match(/^\[?([-+]?\d+(\.\d+)?)/);
  return found ? Number(found[1]) : null;
}

// Lines without a number stay last in either direction; equal ones keep the order that they were written in.
function sortLines(lines, column, words, falling) {
  const key = (line) => line.cells[column].textContent.trim();
  const numeric = !words && lines.some((line) => numberOf(key(line)) !== null);
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
    const words = head.classList.contains("words");
    const steps = words ? [null, "ascending", "descending"] : [null, "descending", "ascending"]; // best or A first, then turned, then as written
    const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = steps[(steps.indexOf(head.getAttribute("aria-sort")) + 1) % steps.length];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      table.tBodies[0].append(...(next ? sortLines(written, column, words, next === "descending") : written));
      table.closest(".scroll").scrollTop = 0; // the first lines are what was asked for
    });
  });
}

function showColumn(table, column, shown) {
  for (const line of table.rows) line.cells[column].hidden = !shown;
}

// Leaves out the columns that do not fit, in the order that their heads say; a reader's own choice is kept.
function offerColumns(frame, table, details) {
  const heads = [...table.tHead.rows[0].cells];
  const turns = heads.map((head) => Number(head.dataset.leaving));
  const leaving = [...heads.keys()].filter((column) => turns[column]).sort((x, y) => turns[y] - turns[x]);
  const summary = details.querySelector("summary");
  const count = () => {
    const shown = heads.filter((head) => !head.hidden).length;
    summary.textContent = shown === heads.length ? `All ${shown} columns` : `${shown} of ${heads.length} columns`;
  };
  let chosen = false;
  const ticks = heads.slice(1).map((head, index) => {
    const tick = element("input", { type: "checkbox" });
    tick.addEventListener("change", () => {
      chosen = true;
      showColumn(table, index + 1, tick.checked);
      count();
    });
    return tick;
  });
  const fit = () => {
    if (chosen) return;
    details.hidden = false;
    heads.forEach((head, column) => head.hidden && showColumn(table, column, true));
    for (const column of leaving) {
      if (table.offsetWidth <= frame.clientWidth) break;
      showColumn(table, column, false);
    }
    ticks.forEach((tick, index) => { tick.checked = !heads[index + 1].hidden; });
    details.hidden = heads.every((head) => !head.hidden);
    count();
  };
  details.append(element("div", {}, ...ticks.map((tick, index) => element("label", {}, tick, heads[index + 1].textContent))));
  window.addEventListener("resize", fit);
  fit();
}

// Keeps the lines that hold every word of the search.
function offerSearch(table, search, found) {
  const keep = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const lines = [...table.tBodies[0].rows];
    for (const line of lines) {
      const text = [...line.cells].map((cell) => cell.textContent.toLowerCase()).join(" ");
      line.hidden = !words.every((word) => text.includes(word));
    }
    const kept = lines.filter((line) => !line.hidden).length;
    found.textContent = kept === lines.length ? `all ${kept} lines` : `${kept} of ${lines.length} lines`;
  };
  search.addEventListener("input", keep);
  keep();
}

function makeTables() {
  for (const frame of document.querySelectorAll(".results")) {
    const table = frame.querySelector("table");
    const tools = frame.previousElementSibling;
    const [details, search] = [tools.querySelector(".columns"), tools.querySelector(".find")];
    makeSortable(table);
    if (details) offerColumns(frame, table, details);
    if (search) offerSearch(table, search, tools.querySelector(".found"));
  }
}
