// The panel at the side: the selected node, the sites; and the legend.

const MOST_LISTED = 12;

const directionNames = (node) => (node.directions.length === directions.length && directions.length > 3
  ? `all ${whole(directions.length)}` : node.directions.map((d) => directions[d]).join(", "));

// A node in a line.
const spoken = (i) => {
  const node = nodes[i];
  const own = node.site === data.start ? "a direction" : `for ${directionNames(node)}`;
  return `${node.name}, ${siteName(node.site)}, ${own}, ${counted(node.examples, "example")}`;
};

function showNode() {
  $("selection").hidden = state.node === null;
  if (state.node === null) return;
  const i = state.node;
  const node = nodes[i];
  const vector = vectorOf(i);
  $("selection-title").textContent = node.name;
  const parts = [
    facts([
      ["Site", siteName(node.site)],
      ["Examples", `${whole(node.examples)} of ${whole(data.nExamples)}`
        + ` (${percent(node.examples / data.nExamples)})`],
      ["Flow", `${number(node.flow)} (lengths of gradients, summed), ${percent(node.share)} of the site's`],
      [node.directions.length === 1 ? "Direction" : "Directions", directionNames(node)],
      ...(node.community === null ? [] : [["Community", String(node.community)]]),
    ]),
    element("h3", {}, "Vector"), drawn(vector, node.site === 0),
    ...neighbourLists(i),
    ...(node.site === data.start ? [] : [element("h3", {}, "Modes"), modesOf(node)]),
    element("h3", {}, "Examples"), examplesListed(i),
  ];
  $("selection").lastElementChild.replaceChildren(...parts);
}

function neighbourLists(i) {
  const site = siteAt.get(nodes[i].site);
  const groups = [["Above, towards the output", -1], ["Below, towards the input", 1],
    ["In the same site", 0]];
  const hidden = [];
  const made = groups.flatMap(([title, step]) => {
    const near = edgesOf[i]
      .filter((edge) => siteAt.get(nodes[otherEnd(edge, i)].site) === site + step)
      .sort((a, b) => b.strength - a.strength);
    if (near.length === 0) return [];
    if (step !== 0) hidden.push(...near.map((edge) => otherEnd(edge, i)).filter((j) => !isShown(j)));
    return [element("h3", {}, `${title} (${whole(near.length)})`),
      list(near, MOST_LISTED, (edge) => neighbourButton(otherEnd(edge, i), edge))];
  });
  made.unshift(...showHidden(hidden));
  return made.length > 0 ? made : [element("p", {}, "No neighbours in this file.")];
}

// As many as there is room for, and how many stay hidden.
function showHidden(hidden) {
  const room = Math.min(hidden.length, MOST_NODES - visible.size);
  const rest = hidden.length - room;
  const what = rest > 0 ? `the ${whole(room)} strongest of ${whole(hidden.length)} hidden neighbours`
    : counted(hidden.length, "hidden neighbour");
  return [
    ...(room > 0 ? [button(`Show ${what}`, () => bringIn(hidden), { id: "show-neighbours" })] : []),
    ...(rest > 0 ? [element("p", { id: "stay-hidden" }, `${stayHidden(rest)}.`)] : []),
  ];
}

function neighbourButton(j, edge) {
  const kind = edge.kind === "within" ? "cos" : "weight";
  const hidden = isShown(j) ? "" : ", hidden";
  const text = element("span", {}, swatch(lookOf(nodes[j])), ` ${nodes[j].name} `,
    element("small", {}, `${kind} ${number(edge.weight)}${hidden}`));
  return button(text, () => selectNode(j), { class: hidden ? "not-shown" : null });
}

function modesOf(node) {
  const more = node.nModes - node.modes.length;
  const rows = node.modes.map(([mode, count]) => `${mode} (${whole(count)})`).join(", ");
  return element("p", {}, `${counted(node.nModes, "mode")} of ${siteName(node.site)}, with examples: `
    + rows + (more > 0 ? ` and ${whole(more)} more.` : "."));
}

function examplesListed(i) {
  const found = examplesOf(i);
  const made = element("div", {}, list(found, MOST_LISTED, exampleButton));
  if (found.length < nodes[i].examples) {
    const all = counted(nodes[i].examples, "example");
    made.append(element("p", {}, `${whole(found.length)} of its ${all} are in this file.`));
  }
  return made;
}

function showSites() {
  const rows = [["width", (site) => whole(site.width)], ["modes", (site) => whole(site.modes)],
    ["components", (site) => whole(site.components)], ["an example uses", (site) => percent(site.used)],
    ["nodes in this file", (site) => whole(site.nodes.length)], ["left out", (site) => whole(site.leftOut)],
    ["of the flow", (site) => percent(site.leftOutFlow)]];
  const inOrder = [...sites].reverse();
  const head = (text, scope) => element("th", { scope }, text);
  $("sites").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, head("site", "col"),
      ...inOrder.map((site) => head(String(site.site), "col")))),
    element("tbody", {}, ...rows.map(([name, text]) => element("tr", {}, head(name, "row"),
      ...inOrder.map((site) => element("td", {}, text(site))))))));
  $("left-out").textContent = nodesText();
}

// How components became nodes.
function nodesText() {
  if (!data.merge) return "Nodes are the components of a site that differ, whatever their mode.";
  const sites = data.merge.sites.map(({ site, components, nodes, widest }) =>
    `site ${site}: ${counted(components, "component")} became ${counted(nodes, "node")}, the widest of`
    + ` ${number(widest)}°`);
  return `Nodes are components of a site that were merged within ${number(data.merge.degrees)}°`
    + ` of each other, whatever their mode; ${sites.join("; ")}.`;
}

function swatch({ colour, shape }) {
  const points = {
    rectangle: "2,2 12,2 12,12 2,12",
    diamond: "7,1 13,7 7,13 1,7",
    triangle: "7,1 13,12 1,12",
    hexagon: "4,2 10,2 13,7 10,12 4,12 1,7",
    star: "7,1 9,5 13,5 10,8 11,13 7,10 3,13 4,8 1,5 5,5",
  }[shape];
  const form = points ? element("polygon", { points, fill: colour })
    : element("circle", { cx: 7, cy: 7, r: 5.5, fill: colour });
  return element("svg", { viewBox: "0 0 14 14", class: "swatch", "aria-hidden": "true" }, form);
}

const stroke = (kind) => element("svg",
  { viewBox: "0 0 28 14", class: `swatch ${kind}`, "aria-hidden": "true" },
  element("line", { x1: 1, x2: 27, y1: 7, y2: 7 }));

function showLegend() {
  const used = [...new Set(nodes.map((node) => node.group))].sort((a, b) => a - b);
  const named = used.filter((k) => k !== null);
  const rows = named.slice(0, MOST_LISTED).map((k) => [swatch(look(k)), groups.names[k]]);
  if (named.length > MOST_LISTED) {
    const repeat = named.length > colourCount * SHAPES.length ? "; looks repeat" : "";
    rows.push([null, `and ${whole(named.length - MOST_LISTED)} more${repeat}`]);
  }
  if (used.includes(null)) rows.push([swatch(look(null)), groups.rest]);
  if (groups.oneCommunity) rows.push([null, "one community, so by direction"]);
  rows.push([null, "larger: more flow"], [stroke("between"), "wider: more weight, on one scale"],
    [stroke("plus"), "cosine above 0"], [stroke("minus"), "cosine below 0"],
    [stroke("lit"), "selected, on the path"]);
  $("legend").lastElementChild.replaceChildren(...rows.map(([mark, text]) =>
    element("li", {}, mark, element("span", {}, text))));
}
