// Builds the page and redraws it when a choice changes.

function start() {
  if (!RUNS.size) return;
  offerRuns();
  const gallery = document.getElementById("gallery");
  const cards = gallery ? makeCards() : [];
  if (gallery) gallery.replaceChildren(...cards.map((card) => card.node));
  const refilter = () => filterCards(cards, chosenRuns());
  const redraw = () => {
    const chosen = chosenRuns();
    drawCharts(chosen);
    if (!gallery) return;
    cards.forEach((card) => drawLanes(card, chosen));
    offerFilters(chosen);
    refilter();
  };
  for (const id of ["run-a", "run-b"]) document.getElementById(id).addEventListener("change", redraw);
  for (const id of ["filter-class", "filter-answer"]) document.getElementById(id)?.addEventListener("change", refilter);
  redraw();
}

try {
  makeTables();
  start();
} finally {
  document.querySelector("main").classList.add("ready"); // shown from here on: nothing moves any more
}
