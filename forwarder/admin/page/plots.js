// Plots of a few series over the time that is kept, as SVG: no size of data can make one larger.
// Lines differ by colour and by dash; a sentence says the same to who cannot see them.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360, HEIGHT = 96, TOP = 8, BOTTOM = 80, LEFT = 40, RIGHT = 352;
const LINES = ["first", "second", "third"];

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The least of 1, 2, 3 or 5 times a power of ten that is no smaller. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}

function path(values, secondsAgo, kept, most) {
  const x = (ago) => RIGHT - (RIGHT - LEFT) * Math.min(1, ago / kept);
  const y = (value) => BOTTOM - (BOTTOM - TOP) * Math.min(1, value / most);
  return values.map((value, i) => `${i ? "L" : "M"}${x(secondsAgo[i]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

function sentence(title, series) {
  const parts = Object.entries(series).map(([name, values]) => {
    const last = values.at(-1) ?? 0, most = values.reduce((a, b) => Math.max(a, b), 0);
    return `${name} ${number.format(last)} now, ${number.format(most)} at most`;
  });
  return `${title}: ${parts.join("; ")}`;
}

function legend(title, series) {
  const caption = document.createElement("figcaption");
  const heading = document.createElement("b");
  heading.textContent = title;
  caption.append(heading);
  Object.keys(series).forEach((name, i) => {
    const key = svg("svg", { class: "key", viewBox: "0 0 30 10", "aria-hidden": "true" });
    key.append(svg("line", { class: LINES[i], x1: 0, y1: 5, x2: 30, y2: 5 }));
    const item = document.createElement("span");
    item.append(key, name);
    caption.append(item);
  });
  return caption;
}

/** A figure; `series` is name -> values, at most three, in the places of `secondsAgo`. */
export function plot(title, series, secondsAgo, kept) {
  const values = Object.values(series);
  const most = ceiling(values.flat().reduce((a, b) => Math.max(a, b), 0));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": sentence(title, series) });
  for (const [value, y] of [[most, TOP], [0, BOTTOM]]) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y, y2: y }));
    picture.append(svg("text", { x: LEFT - 4, y: y + 3, "text-anchor": "end" }, number.format(value)));
  }
  picture.append(svg("text", { x: LEFT, y: HEIGHT - 4 }, `${Math.round(kept / 60)} min ago`));
  picture.append(svg("text", { x: RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  values.forEach((each, i) => picture.append(svg("path", { class: LINES[i], d: path(each, secondsAgo, kept, most) })));
  const figure = document.createElement("figure");
  figure.append(legend(title, series), picture);
  return figure;
}
