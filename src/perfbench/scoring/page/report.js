// Puts the parts of the page together. Data: report_data.py; everything is decided there, here it is only shown.

function start(boards) {
  view.read();
  setUpTheme();
  setUpChoices();
  setUpTables();
  setUpUnits();
  const charts = setUpCharts(boards);
  setUpKeys(charts);
  setUpPlaces();
  setUpTrials(boards);
  view.followAddress();
  document.documentElement.dataset.ready = "true";
  return charts;
}

// Times in seconds, as a share of the budget, against the fastest, or as an interval.
function setUpUnits() {
  view.follow(["unit"], () => {
    for (const cell of document.querySelectorAll("td[data-seconds]")) cell.textContent = cell.dataset[view.get("unit")] ?? "";
  });
}
