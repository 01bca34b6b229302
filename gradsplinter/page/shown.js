// Which nodes and edges are shown: the filters, what was brought in, what is selected.

const MOST_NODES = 1000; // at a time
const FIRST_NODES = 300; // of a larger graph
const FIRST_WITHIN = 200; // edges within sites at first, at most

// The directions first, then the strongest of each site beside the strongest of the others.
const ranking = nodes.map((node) => node.id).sort((a, b) =>
  siteRank(a) - siteRank(b) || nodes[b].strength - nodes[a].strength || a - b);
function siteRank(i) {
  return nodes[i].site === data.start ? 0 : 1;
}
ranking.forEach((i, rank) => { nodes[i].rank = rank; });
const byRank = (a, b) => nodes[a].rank - nodes[b].rank;

const weights = [...new Set(data.between.map((edge) => edge[2]))].sort((a, b) => a - b);
const cosines = data.within.map((edge) => Math.abs(edge[2])).sort((a, b) => b - a);

const state = {
  most: nodes.length > MOST_NODES ? FIRST_NODES : nodes.length,
  weight: 0, // index into weights
  cosine: firstCosine(),
  broughtIn: new Set(),
  node: null,
  example: null, // by its place in the page
  path: null,
  matches: [], // nodes that the search found
};

// In hundredths; 101 shows none.
function firstCosine() {
  const next = cosines[FIRST_WITHIN];
  return next === undefined ? 50 : Math.min(101, Math.max(50, Math.floor(100 * next) + 1));
}

// What is selected comes first, then what was brought in, then what the filter lets through.
let visible = new Set();
function chooseShown() {
  const path = [...state.path?.nodes ?? []].sort(byRank);
  const first = [...(state.node === null ? [] : [state.node]), ...path, ...state.broughtIn];
  visible = new Set(first.slice(0, MOST_NODES));
  for (const i of ranking.slice(0, state.most)) {
    if (visible.size === MOST_NODES) break;
    visible.add(i);
  }
}
const isShown = (i) => visible.has(i);

const onPath = (edge) => Boolean(state.path)
  && (edge.kind === "between" ? state.path.pairs.has(`${edge.a} ${edge.b}`)
    : state.path.nodes.has(edge.a) && state.path.nodes.has(edge.b));

function isEdgeShown(edge) {
  if (!isShown(edge.a) || !isShown(edge.b)) return false;
  if (edge.kind === "within") return edge.strength >= state.cosine / 100;
  if (edge.a === state.node || edge.b === state.node || onPath(edge)) return true;
  return weights.length === 0 || edge.weight >= weights[state.weight];
}

function shownText() {
  const out = sites.reduce((sum, site) => sum + site.leftOut, 0);
  const lines = edges.filter(isEdgeShown).length;
  const parts = [`Showing ${whole(visible.size)} of ${counted(nodes.length, "node")}`
    + ` and ${whole(lines)} of ${counted(edges.length, "edge")}`];
  if (out > 0) {
    const flow = Math.max(...sites.map((site) => site.leftOutFlow));
    parts.push(`${whole(out)} more nodes, with up to ${percent(flow)} of a site's flow, are left out of`
      + " this file: gradsplinter graph puts in more with --nodes"
      + (data.merge ? "" : ", and makes one of those that are near with --angle"));
  }
  if (data.leftOutEdges > 0) parts.push(`${counted(data.leftOutEdges, "weak edge")} left out, too`);
  if (data.zero) parts.push(`${edges.length === 0 ? "there are no edges, since " : ""}${data.zero}`);
  return `${parts.join("; ")}.`;
}
