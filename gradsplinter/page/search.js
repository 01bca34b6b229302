// Search: names, directions, sites, modes, examples.

const MOST_FOUND = 30;

// What a text finds: nodes, those first whose name it is, and examples by their place in the page.
function search(text) {
  const words = text.trim().toLowerCase();
  if (words === "") return { nodes: [], examples: [] };
  const site = words.match(/^site\s*(\d+)$/);
  if (site) return { nodes: sites[siteAt.get(Number(site[1]))]?.nodes ?? [], examples: [] };
  const mode = words.match(/^mode\s*(\d+)(?:\D+(\d+))?$/);
  if (mode) {
    const where = mode[2] === undefined ? sites.map((s) => s.site) : [Number(mode[2])];
    const found = where.filter((s) => s !== data.start).flatMap((s) => nodesWithMode(s, Number(mode[1])));
    return { nodes: found, examples: [] };
  }
  const example = words.match(/^(?:example\s*)?(\d+)$/);
  const named = data.names ?? [];
  const examples = [...data.examples.keys()].filter((at) =>
    (example ? data.examples[at] === Number(example[1]) : named[at]?.toLowerCase().includes(words)));
  const found = nodes.filter((node) => node.name.toLowerCase().includes(words)
    || isNamed(node.id, words));
  const ids = found.map((node) => node.id);
  const whole = ids.filter((i) => isNamed(i, words));
  return { nodes: [...whole, ...ids.filter((i) => !isNamed(i, words))], examples };
}

const isNamed = (i, words) => nodes[i].name.toLowerCase() === words
  || nodes[i].directions.some((d) => directions[d].toLowerCase() === words);

// Where a name is meant, those that only contain it are not: 0.30 is none of 0.3.
function ringed(found, text) {
  const words = text.trim().toLowerCase();
  const named = found.filter((i) => isNamed(i, words));
  return named.length > 0 ? named : found;
}

const nodesWithMode = (site, mode) => [...new Set([...nodesOfMode(site, mode),
  ...(sites[siteAt.get(site)]?.nodes ?? []).filter((i) => nodes[i].modes.some(([m]) => m === mode))])];

function showFound() {
  const text = $("query").value;
  const found = search(text);
  const count = found.nodes.length + found.examples.length;
  state.matches = ringed(found.nodes, text);
  showClear();
  cy.batch(light);
  $("found").hidden = text.trim() === "";
  $("found").replaceChildren(
    element("p", {}, count === 0 ? "Nothing found. Try a name, site 1, mode 3, mode 3 site 1 or example 12."
      : [counted(found.nodes.length, "node"), counted(found.examples.length, "example")].join(", ")),
    list(found.examples, 5, exampleFound),
    list(found.nodes, MOST_FOUND, nodeFound),
  );
  if (text.trim() !== "") announce(count === 0 ? "Nothing found." : `${whole(count)} found.`);
}

const exampleFound = (at) => button(`${exampleName(at)}${label(at)}`,
  () => take(() => selectExample(at)));
const nodeFound = (i) => button(spoken(i), () => take(() => selectNode(i)));

function take(selection) {
  keepingFocus(() => {
    selection();
    closeSearch();
  });
}

function closeSearch() {
  $("found").hidden = true;
}

$("query").addEventListener("input", showFound);
$("query").addEventListener("keydown", (event) => {
  const first = $("found").querySelector("li button");
  if (event.key === "Enter" && first && !$("found").hidden) first.click();
  if (event.key === "ArrowDown" && first) {
    first.focus();
    event.preventDefault();
  }
  if (event.key === "Escape") {
    $("query").value = "";
    showFound();
    event.stopPropagation();
  }
});
document.addEventListener("click", (event) => {
  if (!$("search").contains(event.target)) closeSearch();
});
