// The data of the page, and what follows from it alone.

const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, sites, directions, trie } = data;

const floats = (text) =>
  new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

const siteAt = new Map(sites.map((site, at) => [site.site, at])); // 0 is the start site
sites.forEach((site) => { site.nodes = []; });
nodes.forEach((node, i) => {
  node.id = i;
  sites[siteAt.get(node.site)].nodes.push(i);
});
for (const site of sites) {
  const strongest = Math.max(...site.nodes.map((i) => nodes[i].flow), 0) || 1;
  const total = site.nodes.reduce((sum, i) => sum + nodes[i].flow, 0) / (1 - site.leftOutFlow) || 1;
  for (const i of site.nodes) {
    nodes[i].strength = nodes[i].flow / strongest; // of its site's strongest
    nodes[i].share = nodes[i].flow / total; // of its site's flow
  }
}

const vectors = new Map(Object.entries(data.vectors).map(([site, text]) => [Number(site), floats(text)]));
function vectorOf(i) {
  const { site } = nodes[i];
  const { width, nodes: all } = sites[siteAt.get(site)];
  const begin = (i - all[0]) * width;
  return vectors.get(site).subarray(begin, begin + width);
}

const asEdge = (kind) => ([a, b, weight, count], i) =>
  ({ id: `${kind}${i}`, kind, a, b, weight, count, strength: Math.abs(weight) });
const edges = [...data.between.map(asEdge("between")), ...data.within.map(asEdge("within"))];
const edgesOf = nodes.map(() => []);
for (const edge of edges) {
  edgesOf[edge.a].push(edge);
  edgesOf[edge.b].push(edge);
}
const otherEnd = (edge, i) => (edge.a === i ? edge.b : edge.a);

// The nodes of a row of the trie: one for each direction, -1 left out, -2 a gradient of zero.
const inRow = (at, row) =>
  trie[at].nodes.slice(row * directions.length, (row + 1) * directions.length);

const rowsOf = data.rows.map((row) => { // of an example, by site
  const rows = [row];
  for (let at = trie.length - 1; at > 0; at--) rows.unshift(trie[at].parents[rows[0]]);
  return rows;
});
const inputs = data.inputs && floats(data.inputs);
const exampleAt = new Map(data.examples.map((number, at) => [number, at]));
const inputOf = (at) => inputs.subarray((at * inputs.length) / data.examples.length,
  ((at + 1) * inputs.length) / data.examples.length);

// Of an example, site by site, how many of its components are left out of this file.
const missing = trie.map((site, at) => site.modes.map((_, row) =>
  inRow(at, row).filter((node) => node === -1).length));
const missingOf = (at) => rowsOf[at].map((row, site) => missing[site][row]);
const linked = new Set(data.between.map(([a, b]) => `${a} ${b}`));
const wholePaths = [...rowsOf.keys()].filter((at) => missingOf(at).every((count) => count === 0));

// What an example uses: its nodes, and the pairs of them that follow each other.
function pathOf(at) {
  const path = { nodes: new Set(), pairs: new Set(), missing: missingOf(at), zeros: 0 };
  let above = null;
  rowsOf[at].forEach((row, site) => {
    const here = inRow(site, row);
    here.forEach((node, d) => {
      if (node >= 0) path.nodes.add(node);
      if (node === -2) path.zeros += 1;
      if (above && node >= 0 && above[d] >= 0) path.pairs.add(`${above[d]} ${node}`);
    });
    above = here;
  });
  path.unlinked = [...path.pairs].filter((pair) => !linked.has(pair)).length;
  return path;
}

// The examples in this page that use a node, by their place in it.
function examplesOf(i) {
  const at = siteAt.get(nodes[i].site);
  const rows = new Set(trie[at].modes.keys());
  for (const row of [...rows]) if (!inRow(at, row).includes(i)) rows.delete(row);
  return [...rowsOf.keys()].filter((example) => rows.has(rowsOf[example][at]));
}

// The nodes of a mode of a site, if one of the examples in this page has it.
function nodesOfMode(site, mode) {
  const at = siteAt.get(site);
  const row = at === undefined ? -1 : trie[at].modes.indexOf(mode);
  return row < 0 ? [] : [...new Set(inRow(at, row))].filter((i) => i >= 0);
}
