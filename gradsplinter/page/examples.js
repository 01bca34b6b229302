// Examples: pick one, see its input and its path.

const exampleName = (at) => `Example ${whole(data.examples[at])}`;
const label = (at) => (data.names ? `: ${data.names[at]}` : "");
const sum = (counts) => counts.reduce((total, count) => total + count, 0);
const exampleButton = (at) => {
  const out = sum(missingOf(at));
  return button(`${whole(data.examples[at])}${label(at)}`, () => selectExample(at),
    { "aria-label": `${exampleName(at)}${label(at)}${out > 0 ? `, ${whole(out)} components left out` : ""}`,
      class: out > 0 ? "not-shown" : null });
};

function showExample() {
  const at = state.example;
  $("number").value = at === null ? "" : String(data.examples[at]);
  $("previous").disabled = at === 0 || data.examples.length === 0;
  $("next").disabled = at === data.examples.length - 1 || data.examples.length === 0;
  if (at === null) {
    const all = data.examples.length === data.nExamples;
    const some = wholePaths.length < data.examples.length;
    $("example-found").replaceChildren(
      element("p", {}, all
        ? `Of ${counted(data.nExamples, "example")}, pick one: its path lights up.`
        : `${whole(data.examples.length)} of ${counted(data.nExamples, "example")} are in this file, the`
          + " rarest among them. Pick one: its path lights up."),
      ...(some ? [element("p", {}, ...withOptions(wholePaths.length === 0
        ? "Of every path this file has a part only: gradsplinter graph keeps some whole with --examples."
        : `The whole path of ${whole(wholePaths.length)} is in this file; of the others it has a part:`
          + " gradsplinter graph keeps more of them whole with --examples."))] : []),
    );
    return;
  }
  const { path } = state;
  const modes = rowsOf[at].map((row, k) => [sites[k].site, trie[k].modes[row]]).slice(1);
  const notes = [
    leftOutText(path.missing),
    path.unlinked > 0 ? `${counted(path.unlinked, "weak edge")} of its path left out, too` : null,
    ...hiddenNote(path),
    path.zeros > 0 ? `${counted(path.zeros, "gradient is", "gradients are")} zero` : null,
  ].filter((note) => note !== null);
  $("example-found").replaceChildren(
    element("h3", {}, `${exampleName(at)}${label(at)}`),
    facts([["Path", counted(path.nodes.size, "node")],
      ["Modes", modes.map(([site, mode]) => `${mode} at site ${site}`).join(", ")]]),
    ...(notes.length > 0 ? [element("p", {}, `${notes.join("; ")}.`)] : []),
    ...(inputs ? [element("h3", {}, "Input"), drawn(inputOf(at), true)] : []),
  );
}

// Where a path has more nodes than are shown at a time.
function hiddenNote(path) {
  const hidden = [...path.nodes].filter((i) => !isShown(i)).length;
  return hidden === 0 ? [] : [`${counted(hidden, "of its nodes is", "of its nodes are")} hidden:`
    + ` ${whole(MOST_NODES)} nodes at most are shown at a time`];
}

function leftOutText(counts) {
  const total = sum(counts);
  if (total === 0) return null;
  const where = counts.map((count, k) => [count, sites[k].site]).filter(([count]) => count > 0)
    .map(([count, site]) => `${whole(count)} of ${whole(directions.length)} at site ${site}`);
  return `${counted(total, "of its components is", "of its components are")} left out of this file:`
    + ` ${where.join(", ")}`;
}

// By its number in the data.
function pickExample(wanted) {
  if (exampleAt.has(wanted)) {
    selectExample(exampleAt.get(wanted));
    return;
  }
  const inside = Number.isInteger(wanted) && wanted >= 0 && wanted < data.nExamples;
  const text = inside
    ? `Example ${whole(wanted)} is not among the ${whole(data.examples.length)} in this file.`
    : `Examples are numbered 0 to ${whole(data.nExamples - 1)}.`;
  selectExample(null);
  $("example-found").replaceChildren(element("p", { class: "refused" }, text));
  announce(text);
}

function step(by) {
  const at = state.example === null ? (by > 0 ? 0 : data.examples.length - 1) : state.example + by;
  if (at >= 0 && at < data.examples.length) selectExample(at);
}

$("number").addEventListener("change", (event) => {
  if (event.target.value === "") selectExample(null);
  else pickExample(Number(event.target.value));
});
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));

function showRarest() {
  $("number").max = String(data.nExamples - 1);
  $("rarest").replaceChildren(...data.rarest.map(([i, rarity]) => {
    const made = exampleButton(exampleAt.get(i));
    made.title = `its modes are rare: −Σ log share = ${number(rarity)}`;
    return element("li", {}, made);
  }));
  $("ties").hidden = data.ties === "";
  $("ties").textContent = `${data.ties}.`;
  if (wholePaths.length === 0 || wholePaths.length === data.examples.length) return;
  $("whole").hidden = false;
  $("whole").append(list(wholePaths, MOST_LISTED, exampleButton));
}
