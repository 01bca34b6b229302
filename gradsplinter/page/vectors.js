// Vectors as bars or, where they are images, as pixels; and their numbers.

const MOST_BARS = 64;

function drawn(vector, isInput) {
  const made = element("div", { class: "vector" });
  if (isInput && data.image) made.append(picture(vector));
  else made.append(bars(vector));
  made.append(numbers(vector));
  return made;
}

const largest = (vector) => vector.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const byLength = (vector) =>
  [...vector.keys()].sort((a, b) => Math.abs(vector[b]) - Math.abs(vector[a]) || a - b);

function described(vector) {
  const first = byLength(vector).slice(0, 3).map((k) => `${number(vector[k])} at ${k}`);
  return `${counted(vector.length, "entry", "entries")}; the largest: ${first.join(", ")}`;
}

// Grey where nothing is negative, else from blue over white to red.
function picture(vector) {
  const [height, width] = data.image;
  const canvas = element("canvas", { width, height, role: "img",
    "aria-label": `Image of ${described(vector)}` });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const top = largest(vector) || 1;
  const signed = vector.some((v) => v < 0);
  vector.forEach((v, k) => pixels.data.set([...colourOf(v / top, signed), 255], 4 * k));
  context.putImageData(pixels, 0, 0);
  const range = signed
    ? `blue −${number(top)}, white 0, red ${number(top)}`
    : `black 0, white ${number(top)}`;
  return element("figure", {}, canvas, element("figcaption", {}, range));
}

function colourOf(v, signed) {
  if (!signed) return [255 * v, 255 * v, 255 * v];
  const end = v < 0 ? [5, 80, 160] : [178, 24, 43];
  return end.map((channel) => 255 + (channel - 255) * Math.abs(v));
}

function bars(vector) {
  const shown = byLength(vector).slice(0, MOST_BARS).sort((a, b) => a - b);
  const top = largest(vector) || 1;
  const above = shown.some((k) => vector[k] > 0) ? 1 : 0; // where zero is
  const below = shown.some((k) => vector[k] < 0) ? 1 : 0;
  const viewBox = `0 0 ${shown.length} ${Math.max(1, above + below)}`;
  const svg = element("svg", { viewBox, preserveAspectRatio: "none", class: "bars", role: "img",
    "aria-label": `Bars of ${described(vector)}` });
  shown.forEach((k, x) => {
    const height = Math.abs(vector[k]) / top;
    svg.append(element("rect", { x: x + 0.1, width: 0.8, height, y: vector[k] > 0 ? above - height : above,
      class: vector[k] > 0 ? "positive" : "negative" },
    element("title", {}, `${k}: ${number(vector[k])}`)));
  });
  svg.append(element("line", { x1: 0, x2: shown.length, y1: above, y2: above,
    "vector-effect": "non-scaling-stroke" }));
  const which = shown.length < vector.length
    ? `the ${shown.length} largest of ${whole(vector.length)} entries, in their order`
    : `entries 0 to ${vector.length - 1}`;
  const caption = `${which}; the longest is ${number(top)}`;
  return element("figure", {}, svg, element("figcaption", {}, caption));
}

function numbers(vector) {
  const made = element("details", {}, element("summary", {}, "Numbers"));
  made.addEventListener("toggle", () => { // a table of a thousand rows takes a while
    if (!made.open || made.children.length > 1) return;
    const rows = [...vector].map((v, k) => element("tr", {},
      element("th", { scope: "row" }, String(k)), element("td", {}, number(v))));
    made.append(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers" },
      element("table", {}, element("thead", {}, element("tr", {},
        element("th", { scope: "col" }, "entry"), element("th", { scope: "col" }, "value"))),
      element("tbody", {}, ...rows))));
  });
  return made;
}
