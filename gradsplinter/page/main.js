// The controls, and the first drawing.

function showFilters() {
  const least = nodes[ranking[state.most - 1]].strength;
  say("most", state.most === nodes.length ? "all"
    : `${whole(state.most)}, flow from ${percent(Number(least.toPrecision(2)))} of a site's largest`);
  say("weight", state.weight === 0 ? "all" : `weight from ${number(weights[state.weight])}`);
  say("cosine", state.cosine > 100 ? "none" : `|cosine| from ${number(state.cosine / 100)}`);
}

function say(name, text) {
  $(`${name}-text`).textContent = text;
  $(name).setAttribute("aria-valuetext", text);
}

function filter(name, most) {
  const slider = $(name);
  slider.max = String(most);
  slider.value = String(state[name]);
  slider.disabled = most === 0;
  slider.addEventListener("input", () => {
    state[name] = Number(slider.value);
    if (name === "most") state.broughtIn.clear();
    refresh();
    showFilters();
    showNode();
    if (name === "most") fit();
  });
}

$("summary").textContent = `${data.network}, from ${siteName(data.start)} back to ${siteName(data.end)}; `
  + `${counted(data.nExamples, "example")}, ${counted(directions.length, "direction")}`;
filter("most", Math.min(nodes.length, MOST_NODES));
filter("weight", Math.max(0, weights.length - 1));
filter("cosine", 101);
$("zoom-in").addEventListener("click", () => zoomBy(1.25));
$("zoom-out").addEventListener("click", () => zoomBy(0.8));
$("fit").addEventListener("click", fit);
$("clear").addEventListener("click", clear);
showLegend();
showSites();
showRarest();
showExample();
showFilters();
refresh();
fit();
new ResizeObserver(() => {
  const isFitted = currentView() === fitted; // else it is the user's
  cy.resize();
  if (!isFitted) return;
  place();
  fit();
}).observe($("graph-frame"));
