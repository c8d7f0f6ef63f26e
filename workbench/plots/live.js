// The browser's half of LivePanel: keeps the rows, draws one SVG a metric, sends "stop". No library, no network.
const SVG = "http://www.w3.org/2000/svg";
const W = 260, H = 150, LEFT = 38, RIGHT = 10, TOP = 8, BOTTOM = 34, MOST = 400;

function initialize({ model }) {
  // A message carries new rows and where they start, so that a browser that joined late neither misses nor repeats one.
  model.on("msg:custom", (message) => {
    if (message.rows) {
      const rows = model.get("rows");
      rows.splice(message.start, rows.length, ...message.rows);
    }
  });
}

function element(parent, tag, attributes = {}, text = "") {
  const made = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

function ticks(low, high) {
  const rough = (high - low) / 3, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return found;
}

function smoothed(points, width) {
  let total = 0;
  return points.map(([x, y], i) => {
    total += y - (i >= width ? points[i - width][1] : 0);
    return [x, total / Math.min(i + 1, width)];
  });
}

function thin(points) {
  if (points.length <= MOST) return points;
  const stride = Math.ceil(points.length / MOST);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

function chart(parent, metric) {
  const box = element(parent, "div", { class: "wb-metric" });
  const head = element(box, "div", { class: "wb-head", "aria-hidden": "true" });
  element(head, "span", { class: "wb-name" }, metric.label);
  const now = element(head, "span", { class: "wb-now" }, "–");
  const svg = element(box, "svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${metric.label}: no value yet` });
  const grid = element(svg, "svg:g", { class: "wb-grid" });
  element(svg, "svg:text", { x: (LEFT + W - RIGHT) / 2, y: H - 4, class: "wb-axis", "text-anchor": "middle" }, "step");
  const raw = element(svg, "svg:path", { class: "wb-raw", stroke: metric.color });
  const line = element(svg, "svg:path", { class: "wb-line", stroke: metric.color });
  const dot = element(svg, "svg:circle", { r: 3.5, fill: metric.color, visibility: "hidden" });

  return (rows, column, width) => {
    const points = rows.filter((row) => row[column] !== null && row[column] !== undefined).map((row) => [row[0], row[column]]);
    if (!points.length) return;
    const bold = smoothed(points, width);
    const first = points[0][0], last = Math.max(points[points.length - 1][0], first + 1);
    let [low, high] = metric.limits || [Infinity, -Infinity];
    if (!metric.limits) {
      for (const [, y] of points) { low = Math.min(low, y); high = Math.max(high, y); }
      if (high - low < 1e-9 * Math.max(1, Math.abs(high))) { const pad = Math.abs(high) * 0.1 || 1; low -= pad; high += pad; }
      const margin = (high - low) * 0.06; low -= margin; high += margin;
    }
    const px = (x) => LEFT + ((x - first) / (last - first)) * (W - LEFT - RIGHT);
    const py = (y) => TOP + (1 - (Math.min(Math.max(y, low), high) - low) / (high - low)) * (H - TOP - BOTTOM);
    const path = (list) => "M" + thin(list).map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join("L");
    grid.replaceChildren();
    for (const y of ticks(low, high)) {
      element(grid, "svg:line", { x1: LEFT, x2: W - RIGHT, y1: py(y), y2: py(y) });
      element(grid, "svg:text", { x: LEFT - 6, y: py(y) + 3.5, "text-anchor": "end" }, short(y));
    }
    element(grid, "svg:text", { x: LEFT, y: H - BOTTOM + 14, "text-anchor": "start" }, short(first));
    element(grid, "svg:text", { x: W - RIGHT, y: H - BOTTOM + 14, "text-anchor": "end" }, short(last));
    raw.setAttribute("d", width > 1 ? path(points) : "");
    line.setAttribute("d", path(bold));
    const [x, y] = bold[bold.length - 1];
    dot.setAttribute("cx", px(x)); dot.setAttribute("cy", py(y)); dot.setAttribute("visibility", "visible");
    now.textContent = short(y);
    svg.setAttribute("aria-label", `${metric.label}: ${short(y)} at step ${short(x)}, ${short(points[0][1])} at the start`);
  };
}

function render({ model, el }) {
  el.classList.add("wb-live");
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("title") || "live training panel");
  const bar = element(el, "div", { class: "wb-bar" });
  const status = element(bar, "span", { class: "wb-status" }, "waiting for the first step");
  const stop = element(bar, "button", { type: "button", class: "wb-stop", title: "Stop after this step; what was learned is kept" }, "Stop");
  const charts = element(el, "div", { class: "wb-charts" });
  const draws = model.get("metrics").map((metric) => chart(charts, metric));
  const began = performance.now();
  let waiting = false, halted = false;

  function draw() {
    waiting = false;
    const rows = model.get("rows");
    if (!rows.length) return;
    draws.forEach((drawOne, i) => drawOne(rows, i + 1, model.get("smooth")));
    const title = model.get("title");
    const seconds = Math.round((performance.now() - began) / 1000);
    status.textContent = `${title ? title + " · " : ""}step ${rows[rows.length - 1][0]} · ${seconds} s`;
    el.dataset.steps = rows.length;
  }
  function soon() {
    if (!waiting) { waiting = true; setTimeout(draw, 30); }  // a timer also runs in a hidden tab, an animation frame does not
  }
  function hear(message) {
    if (message.stopped) { halted = true; stop.textContent = "Stopped"; }
    if (message.rows) soon();
  }
  stop.addEventListener("click", () => {
    model.send({ type: "stop" });
    stop.disabled = true;
    stop.textContent = "Stopping…";
    setTimeout(() => { if (!halted) stop.textContent = "No answer: use ■ above"; }, 4000);
  });
  model.on("msg:custom", hear);
  model.on("change:rows", soon);
  draw();
  return () => { model.off("msg:custom", hear); model.off("change:rows", soon); };
}

export default { initialize, render };
