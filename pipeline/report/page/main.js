// Puts the page together and redraws it when a choice changes.

function start() {
  if (!ROWS.size) return;
  offerRows();
  const gallery = document.getElementById("gallery");
  const cards = gallery ? makeCards() : [];
  if (gallery) gallery.replaceChildren(...cards.map((card) => card.node));
  const refilter = () => filterCards(cards, chosenRows());
  const redraw = () => {
    const chosen = chosenRows();
    drawCharts(chosen);
    if (!gallery) return;
    cards.forEach((card) => drawLanes(card, chosen));
    offerFilters(chosen);
    refilter();
  };
  for (const id of ["row-a", "row-b"]) document.getElementById(id).addEventListener("change", redraw);
  for (const id of ["filter-class", "filter-answer"]) document.getElementById(id)?.addEventListener("change", refilter);
  redraw();
}

start();
