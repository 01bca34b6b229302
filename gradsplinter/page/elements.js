// Elements and words. Text from the data goes in as text, never as HTML.

const $ = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = name === "svg" || svgNames.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "click") made.addEventListener("click", value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}
const svgNames = new Set(["rect", "line", "circle", "polygon", "title"]);

const button = (text, click, attributes = {}) =>
  element("button", { type: "button", click, ...attributes }, text);

// Text in which no option of the command line is broken at its hyphens.
const withOptions = (text) => text.split(/(--[a-z]+)/).map((part) =>
  (part.startsWith("--") ? element("code", {}, part) : part));

const whole = (number) => number.toLocaleString("en");
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const number = (value) => three.format(value).replace("-", "−");
const percent = (share) => `${number(100 * share)}\u00a0%`;
const counted = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

function list(items, most, make) {
  const made = element("ul", { class: "buttons" }, ...items.slice(0, most).map((item) =>
    element("li", {}, make(item))));
  if (items.length > most) {
    const more = button(`${whole(items.length - most)} more`, () => {
      const longer = list(items, items.length, make);
      made.replaceWith(longer);
      longer.children[most].querySelector("button").focus();
    });
    made.append(element("li", {}, more));
  }
  return made;
}

function facts(pairs) {
  const made = element("dl");
  for (const [term, value] of pairs) {
    made.append(element("dt", {}, term), element("dd", {}, value));
  }
  return made;
}

// A change can take away the element that has the focus; then the title of what is selected gets it.
function keepingFocus(change) {
  const before = document.activeElement;
  change();
  if (before === document.body || (before.isConnected && before.offsetParent !== null)) return;
  $($("selection").hidden ? "example-title" : "selection-title").focus();
}

// Told by screen readers.
function announce(text) {
  $("live").textContent = text;
}
