// What is selected: a node with its neighbours, or an example with its path.

// Draws what is shown and lights up what is selected. All else follows from `state`.
function refresh() {
  cy.batch(() => {
    nodes.forEach((_, i) => cy.getElementById(String(i)).toggleClass("away", !isShown(i)));
    edges.forEach((edge) => cy.getElementById(edge.id).toggleClass("away", !isEdgeShown(edge)));
    place();
    light();
  });
  refreshHeadings();
  placeHeadings();
  $("shown").textContent = shownText();
  $("clear").hidden = state.node === null && state.example === null;
  listNodes();
}

function light() {
  cy.elements().removeClass("lit dim chosen");
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
  if (state.path) return new Set([...state.path.nodes, ...(state.node === null ? [] : [state.node])]);
  const near = edges.filter((edge) => touches(edge) && isEdgeShown(edge));
  return new Set([state.node, ...near.map((edge) => otherEnd(edge, state.node))]);
}

function selectNode(i) {
  state.node = i;
  if (state.path && i !== null && !state.path.nodes.has(i)) forgetExample();
  refresh();
  showNode();
  if (i === null) return;
  moveCursor(i);
  lookAt(i);
  announce(`${spoken(i)}. ${counted(litNodes().size - 1, state.path ? "other node" : "neighbour")} lit up.`);
}

function selectExample(at) {
  state.example = at;
  state.path = at === null ? null : pathOf(at);
  if (state.node !== null && !state.path?.nodes.has(state.node)) state.node = null;
  refresh();
  showNode();
  showExample();
  if (at !== null) {
    lookAtAll(state.path.nodes);
    announce(`${exampleName(at)}: its path of ${counted(state.path.nodes.size, "node")} is lit up.`);
  }
}

function forgetExample() {
  state.example = null;
  state.path = null;
  showExample();
}

function clear() {
  if (state.node === null && state.example === null) return;
  state.node = null;
  forgetExample();
  cy.nodes().removeClass("match");
  refresh();
  showNode();
  announce("Selection cleared.");
}

function bringIn(some) {
  for (const i of some) state.broughtIn.add(i);
  refresh();
  showNode();
}

cy.on("tap", "node", (event) => selectNode(Number(event.target.id())));
cy.on("tap", (event) => { if (event.target === cy) clear(); });
