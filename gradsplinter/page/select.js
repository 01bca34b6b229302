// What is selected: a node with its neighbours, or an example with its path.

// Draws what is shown and lights up what is selected. All else follows from `state`.
function refresh() {
  chooseShown();
  draw();
  cy.batch(() => {
    place();
    light();
  });
  refreshHeadings();
  placeHeadings();
  $("shown").replaceChildren(...withOptions(shownText()));
  showClear();
  listNodes();
}

const isClear = () => state.node === null && state.example === null && state.matches.length === 0;
function showClear() {
  $("clear").hidden = isClear();
}

function light() {
  cy.elements().removeClass("lit dim chosen match");
  for (const i of state.matches) cy.getElementById(String(i)).addClass("match");
  if (state.node === null && !state.path) return;
  const lit = litNodes();
  cy.elements().addClass("dim");
  for (const i of lit) cy.getElementById(String(i)).removeClass("dim").addClass("lit");
  for (const edge of edges) {
    if (isLit(edge)) cy.getElementById(edge.id).removeClass("dim").addClass("lit");
  }
  if (state.node !== null) cy.getElementById(String(state.node)).addClass("chosen");
}

// Of the selected node its neighbours, within the path of the selected example if there is one.
const touches = (edge) => edge.a === state.node || edge.b === state.node;
function isLit(edge) {
  return isEdgeShown(edge) && (state.path ? onPath(edge) : touches(edge));
}

function litNodes() {
  if (state.path) {
    const path = [...state.path.nodes].filter(isShown);
    return new Set([...path, ...(state.node === null ? [] : [state.node])]);
  }
  const near = edges.filter((edge) => touches(edge) && isEdgeShown(edge));
  return new Set([state.node, ...near.map((edge) => otherEnd(edge, state.node))]);
}

function selectNode(i) {
  keepingFocus(() => {
    state.node = i;
    if (state.path && !state.path.nodes.has(i)) forgetExample();
    refresh();
    showNode();
  });
  moveCursor(i);
  lookAt(i);
  announce(`${spoken(i)}. ${counted(litNodes().size - 1, state.path ? "other node" : "neighbour")} lit up.`);
}

// By its place in the page; null for none.
function selectExample(at) {
  keepingFocus(() => {
    state.example = at;
    state.path = at === null ? null : pathOf(at);
    if (state.node !== null && !state.path?.nodes.has(state.node)) state.node = null;
    refresh();
    showNode();
    showExample();
  });
  if (at === null) return;
  lookAtAll([...state.path.nodes].filter(isShown));
  announce([`${exampleName(at)}: its path of ${counted(state.path.nodes.size, "node")} is lit up`,
    ...hiddenNote(state.path), leftOutText(state.path.missing)].filter((text) => text !== null).join("; ").concat("."));
}

function forgetExample() {
  state.example = null;
  state.path = null;
  showExample();
}

function clear() {
  if (isClear()) return;
  keepingFocus(() => {
    state.node = null;
    forgetExample();
    state.matches = [];
    $("query").value = "";
    closeSearch();
    refresh();
    showNode();
  });
  announce("Selection cleared.");
}

// The strongest of some hidden nodes, as many as there is room for.
function bringIn(hidden) {
  const some = [...hidden].sort(byRank).slice(0, MOST_NODES - visible.size);
  keepingFocus(() => {
    for (const i of some) state.broughtIn.add(i);
    refresh();
    showNode();
  });
  lookAtAll(litNodes()); // many new ones move all the others
  const rest = hidden.length - some.length;
  announce([`${counted(some.length, "node")} brought in`, ...(rest > 0 ? [stayHidden(rest)] : [])]
    .join("; ").concat("."));
}

const stayHidden = (count) => `${counted(count, "neighbour stays", "neighbours stay")} hidden:`
  + ` ${whole(MOST_NODES)} nodes at most are shown at a time`;

// Says which node the mouse or the keys are at.
function point(i) {
  $("pointed").hidden = i === null;
  if (i !== null) $("pointed").textContent = spoken(i);
}

cy.on("mouseover", "node", (event) => point(Number(event.target.id())));
cy.on("mouseout", "node", () => point(null));
cy.on("tap", "node", (event) => selectNode(Number(event.target.id())));
cy.on("tap", (event) => { if (event.target === cy) clear(); });
