// The drawing: colours, places, and the view on them.

// A group has one of a few colours; when these are used up, the shape changes.
const { groups } = data;
const SHAPES = ["ellipse", "rectangle", "diamond", "triangle", "hexagon", "star"];
const ROW = 30; // between nodes of a site, one below the other
const FARTHEST = 90;
const FEWEST_ROWS = 8;
const MARGIN = 16; // around what is brought into sight, on the screen
const FOOT = 48; // where the buttons are

const colourCount = new Set(groups.colours).size;
const look = (k) => (k === null ? { colour: groups.restColour, shape: SHAPES[0] }
  : { colour: groups.colours[k], shape: SHAPES[Math.floor(k / colourCount) % SHAPES.length] });
const lookOf = (node) => look(node.group);

const diameter = (node) => 8 + 16 * Math.sqrt(node.strength);
// Of all edges between sites, so that those of different sites can be compared.
const heaviest = data.between.reduce((most, [, , weight]) => Math.max(most, weight), 0) || 1;
const thickness = (edge) => (edge.kind === "within" ? 0.6 + 1.4 * edge.strength
  : 0.5 + 2.5 * (edge.weight / heaviest));

const stillness = matchMedia("(prefers-reduced-motion: reduce)");
const darkness = matchMedia("(prefers-color-scheme: dark)");

const cy = cytoscape({
  container: $("graph"),
  style: drawingStyle(),
  layout: { name: "preset" },
  autoungrabify: true,
  boxSelectionEnabled: false,
  selectionType: "single",
  minZoom: 0.05,
  maxZoom: 6,
});
darkness.addEventListener("change", () => cy.style(drawingStyle()));

function drawingStyle() {
  const computed = getComputedStyle(document.documentElement);
  const [ink, paper, quiet, accent, plus, minus] = ["ink", "paper", "quiet", "accent", "plus", "minus"]
    .map((name) => computed.getPropertyValue(`--${name}`).trim());
  return [
    { selector: "node", style: { "background-color": "data(colour)", shape: "data(shape)",
      width: "data(size)", height: "data(size)", "border-width": 0.8, "border-color": ink,
      "border-opacity": 0.55, label: "data(name)", color: ink, "font-size": 9, "text-valign": "bottom",
      "text-margin-y": 2, "text-max-width": "90px", "text-wrap": "ellipsis", "min-zoomed-font-size": 8,
      "text-outline-color": paper, "text-outline-width": 1.5, "overlay-opacity": 0 } },
    { selector: "node.start", style: { "text-halign": "right", "text-valign": "center", "font-size": 12,
      "text-margin-x": 4, "text-margin-y": 0, "min-zoomed-font-size": 0 } },
    { selector: "edge", style: { width: "data(width)", "line-color": quiet, "line-opacity": 0.45,
      "curve-style": "straight", "overlay-opacity": 0, events: "no" } },
    { selector: "edge.within", style: { "curve-style": "unbundled-bezier", "line-style": "dashed",
      "line-opacity": 0.75, "control-point-distances": 28, "control-point-weights": 0.5 } },
    { selector: "edge.plus.within", style: { "line-color": plus, "line-dash-pattern": [7, 3] } },
    { selector: "edge.minus.within", style: { "line-color": minus, "line-dash-pattern": [2, 3] } },
    { selector: ".dim", style: { opacity: 0.16 } },
    { selector: "edge.lit", style: { "line-opacity": 0.9 } },
    { selector: "edge.lit.between", style: { "line-color": ink } },
    { selector: "node.lit", style: { "border-width": 2, "border-opacity": 1, "z-index": 5,
      "min-zoomed-font-size": 5 } },
    { selector: "node.match", style: { "border-width": 3, "border-opacity": 1, "border-color": accent } },
    { selector: "node.chosen", style: { "border-width": 4, "border-opacity": 1, "z-index": 9,
      "min-zoomed-font-size": 0, "font-weight": "bold" } },
    { selector: "node.cursor", style: { "outline-width": 3, "outline-color": accent, "outline-offset": 2,
      "z-index": 9, "min-zoomed-font-size": 0 } },
  ];
}

const asNode = (node) => ({ group: "nodes", classes: node.site === data.start ? "start" : "",
  data: { id: String(node.id), name: node.name, size: diameter(node), ...lookOf(node) } });
const asLine = (edge) => ({ group: "edges", classes: `${edge.kind} ${edge.weight < 0 ? "minus" : "plus"}`,
  data: { id: edge.id, source: String(edge.a), target: String(edge.b), width: thickness(edge) } });

// Puts in what is shown and takes out what is not: a file can hold far more than can be drawn.
function draw() {
  const shown = [...nodes.filter((node) => isShown(node.id)).map(asNode),
    ...edges.filter(isEdgeShown).map(asLine)];
  const wanted = new Set(shown.map((made) => made.data.id));
  cy.remove(cy.elements().filter((there) => !wanted.has(there.id())));
  cy.add(shown.filter((made) => !cy.hasElementWithId(made.data.id)));
}

// Sites as columns, the last one left; a site with many nodes takes several columns side by side.
const columns = new Map(); // the middle of each site
const ordered = (site) => site.nodes.filter(isShown).sort((a, b) => nodes[a].order - nodes[b].order || a - b);

function place() {
  const shown = sites.map(ordered).reverse();
  const { rows, gap } = shape(shown.map((site) => site.length));
  let x = 0;
  shown.forEach((site, k) => {
    const across = Math.max(1, Math.ceil(site.length / rows));
    const down = Math.ceil(site.length / across);
    const step = Math.min(FARTHEST, (Math.max(rows, FEWEST_ROWS) * ROW) / down);
    site.forEach((i, at) => {
      const row = Math.floor(at / across);
      cy.getElementById(String(i)).position({
        x: x + ROW * (at % across),
        y: step * (row - (down - 1) / 2) + (at % 2) * (across > 1 ? ROW / 4 : 0),
      });
    });
    columns.set(sites[sites.length - 1 - k].site, x + (ROW * (across - 1)) / 2);
    x += ROW * (across - 1) + gap;
  });
}

// As few rows as give the drawing the shape of its place, half of whose width is between the sites.
function shape(counts) {
  const wanted = Math.max(0.4, cy.width() / Math.max(1, cy.height()));
  const most = Math.max(...counts, 1);
  for (let rows = Math.min(FEWEST_ROWS, most); ; rows++) {
    const width = wanted * ROW * Math.max(rows, FEWEST_ROWS);
    const gap = Math.max(70, (0.5 * width) / Math.max(1, counts.length - 1));
    const blocks = counts.reduce((sum, count) => sum + ROW * Math.max(0, Math.ceil(count / rows) - 1), 0);
    if (blocks + gap * (counts.length - 1) <= width || rows >= most) {
      return { rows, gap: counts.length > 1 ? Math.max(gap, (width - blocks) / (counts.length - 1)) : 0 };
    }
  }
}

// The headings stand above their columns, wherever these are on the screen.
const WIDEST = 230;
const headings = new Map([...sites].reverse().map((site) => {
  const made = element("div", {},
    element("b", {}, siteName(site.site)), element("span"), element("span"));
  $("headings").append(made);
  return [site.site, made];
}));

function siteName(site) {
  const name = data.siteNames[site];
  return name ? `site ${site}, ${name}` : `site ${site}`;
}

function placeHeadings() {
  const pan = cy.pan();
  const middles = [...sites].reverse().map((site) => columns.get(site.site) * cy.zoom() + pan.x);
  [...headings.values()].forEach((heading, k) => {
    const middle = middles[k];
    const before = middles[k - 1] ?? -Infinity;
    const after = middles[k + 1] ?? Infinity;
    let left = Math.max(middle - WIDEST / 2, (before + middle) / 2);
    let right = Math.min(middle + WIDEST / 2, (after + middle) / 2);
    if (middle > 0 && middle < cy.width()) {
      left = Math.max(left, 0);
      right = Math.min(right, cy.width());
    }
    heading.style.width = `${right - left}px`;
    heading.style.transform = `translateX(${left}px)`;
  });
}
cy.on("pan zoom resize", placeHeadings);

function refreshHeadings() {
  for (const site of sites) {
    const [, first, second] = headings.get(site.site).children;
    const shown = site.nodes.filter(isShown).length;
    first.textContent = `${whole(site.width)} wide, ${counted(site.modes, "mode")}`;
    const hidden = site.nodes.length + site.leftOut - shown;
    second.textContent = `${counted(shown, "node")}${hidden > 0 ? `, ${whole(hidden)} not shown` : ""}`;
  }
}

const currentView = () => JSON.stringify([cy.zoom(), cy.pan()]);
let fitted = null; // the view that `fit` chose

// The columns, too: one can be without nodes.
function fit() {
  const box = cy.nodes().boundingBox();
  const x1 = Math.min(box.x1, ...columns.values());
  const x2 = Math.max(box.x2, ...columns.values());
  const room = [cy.width() - 2 * MARGIN, Math.max(FOOT, cy.height() - MARGIN - FOOT)];
  const most = 1.6 * Math.max(1, Math.min(cy.width() / 1000, cy.height() / 700));
  const zoom = Math.min(most, room[0] / (x2 - x1), room[1] / (box.y2 - box.y1));
  cy.viewport({ zoom, pan: { x: cy.width() / 2 - (zoom * (x1 + x2)) / 2,
    y: (cy.height() + MARGIN - FOOT) / 2 - (zoom * (box.y1 + box.y2)) / 2 } });
  fitted = currentView();
  placeHeadings();
}

function zoomBy(factor) {
  cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
}

// Brings a node into sight, if it is not.
function lookAt(i) {
  const { x, y } = cy.getElementById(String(i)).renderedPosition();
  const inside = (at, most) => Math.min(Math.max(at, MARGIN), most);
  const by = { x: inside(x, cy.width() - MARGIN) - x, y: inside(y, cy.height() - FOOT) - y };
  if (by.x === 0 && by.y === 0) return;
  if (stillness.matches) cy.panBy(by);
  else cy.animate({ panBy: by }, { duration: 150 });
}

// All that is shown, unless these nodes are in sight already.
function lookAtAll(some) {
  const isOutside = (i) => { // its name, too
    const { x1, y1, x2, y2 } = cy.getElementById(String(i)).renderedBoundingBox();
    return x1 < 0 || y1 < 0 || x2 > cy.width() || y2 > cy.height();
  };
  if ([...some].some(isOutside)) fit();
}
