// The nodes as a list for keyboards and screen readers: it mirrors the drawing, site by site.

let cursor = null; // the node at which the keys are

function listNodes() {
  const box = $("nodes");
  box.replaceChildren(...[...sites].reverse().map((site) => element("div",
    { role: "group", "aria-label": siteName(site.site) }, ...ordered(site).map(asOption))));
  if (cursor === null || !isShown(cursor)) cursor = null;
  markCursor();
}

const asOption = (i) => element("div", { role: "option", id: `node-${i}`,
  "aria-selected": String(i === state.node) }, spoken(i));

function moveCursor(i) {
  cursor = i;
  markCursor();
}

function markCursor() {
  const box = $("nodes");
  cy.nodes(".cursor").removeClass("cursor");
  if (cursor === null) {
    box.removeAttribute("aria-activedescendant");
    return;
  }
  box.setAttribute("aria-activedescendant", `node-${cursor}`);
  if (document.activeElement !== box) return;
  cy.getElementById(String(cursor)).addClass("cursor");
  point(cursor);
}

// The next node in a direction: up and down within the site, left and right to the nearest of the next.
function beside(key) {
  if (cursor === null) return ranking.find(isShown) ?? null;
  const at = siteAt.get(nodes[cursor].site);
  const here = ordered(sites[at]);
  const k = here.indexOf(cursor);
  if (key === "ArrowUp") return here[Math.max(0, k - 1)];
  if (key === "ArrowDown") return here[Math.min(here.length - 1, k + 1)];
  if (key === "Home") return here[0];
  if (key === "End") return here[here.length - 1];
  const step = key === "ArrowLeft" ? 1 : -1;
  for (let next = at + step; sites[next]; next += step) {
    const there = ordered(sites[next]);
    if (there.length > 0) return nearest(there);
  }
  return cursor;
}

// A neighbour that the cursor has there, by the heaviest edge; else the one at its height.
function nearest(there) {
  const near = edgesOf[cursor].filter((edge) => there.includes(otherEnd(edge, cursor)))
    .sort((a, b) => b.strength - a.strength);
  if (near.length > 0) return otherEnd(near[0], cursor);
  const height = (i) => cy.getElementById(String(i)).position("y");
  const far = (i) => Math.abs(height(i) - height(cursor));
  return there.reduce((a, b) => (far(b) < far(a) ? b : a));
}

$("nodes").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (key.startsWith("Arrow") || key === "Home" || key === "End") {
    const next = beside(key);
    if (next !== null) {
      moveCursor(next);
      lookAt(next);
    }
  } else if (key === "Enter" || key === " ") {
    if (cursor !== null) selectNode(cursor);
  } else if (key === "+" || key === "=") zoomBy(1.25);
  else if (key === "-") zoomBy(0.8);
  else if (key === "0") fit();
  else return;
  event.preventDefault();
});
$("nodes").addEventListener("focus", () => {
  if (cursor === null) cursor = beside("");
  markCursor();
});
$("nodes").addEventListener("blur", () => {
  cy.nodes(".cursor").removeClass("cursor");
  point(null);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
});
