// A causal diagram to change: drag from one variable to another, click an arrow to take it away; all of it by keyboard too.
const NS = "http://www.w3.org/2000/svg";
const UNIT = 110, RADIUS = 24;
let count = 0;

function make(tag, attributes, parent) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (parent) parent.appendChild(element);
  return element;
}

function same(pair, a, b, unordered) {
  return (pair[0] === a && pair[1] === b) || (unordered && pair[0] === b && pair[1] === a);
}

function render({ model, el }) {
  const id = `wb-diagram-${++count}`;
  const first = { directed: model.get("directed"), bidirected: model.get("bidirected") };
  el.classList.add("wb-diagram");
  el.innerHTML = `<div class="bar" role="group" aria-label="what to draw">
      <label><input type="radio" name="${id}" value="directed" checked> arrow</label>
      <label><input type="radio" name="${id}" value="bidirected"> hidden cause of two</label>
      <button type="button">Start again</button></div>
    <p class="help" aria-live="polite"></p>
    <div class="canvas"></div>
    <div class="answer" role="status" aria-live="polite"><strong></strong><span></span></div>`;
  const help = el.querySelector(".help");
  const idle = "Drag from one variable to another to draw; click an arrow to take it away. Keyboard: Tab, Enter, Delete.";
  const nodes = model.get("nodes");
  const xs = nodes.map((n) => n.x), ys = nodes.map((n) => n.y);
  const left = Math.min(...xs), top = Math.max(...ys), right = Math.max(...xs), bottom = Math.min(...ys);
  const width = (right - left) * UNIT + 110, height = (top - bottom) * UNIT + 215;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "causal diagram" });
  svg.style.maxWidth = `${width}px`;
  el.querySelector(".canvas").appendChild(svg);
  const place = {};
  for (const n of nodes) place[n.name] = { x: (n.x - left) * UNIT + 55, y: (top - n.y) * UNIT + 95 };
  const defs = make("defs", {}, svg);
  for (const [name, color] of [["plain", "currentColor"], ["open", "#d55e00"]]) {
    const marker = make("marker", {
      id: `${id}-${name}`, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 11, markerHeight: 11,
      markerUnits: "userSpaceOnUse", orient: "auto-start-reverse",
    }, defs);
    make("path", { d: "M 0 0 L 10 5 L 0 10 z", fill: color }, marker);
  }
  const edges = make("g", {}, svg), circles = make("g", {}, svg);
  let from = null, drawing = null, refocus = null;

  const kind = () => el.querySelector("input:checked").value;

  function toggle(a, b, which) {
    if (a === b) return;
    const pairs = model.get(which), unordered = which === "bidirected";
    const kept = pairs.filter((pair) => !same(pair, a, b, unordered));
    model.set(which, kept.length < pairs.length ? kept : [...pairs, [a, b]]);
    model.save_changes();
  }

  function route(a, b, two) {
    const p = place[a], q = place[b], dx = q.x - p.x, dy = q.y - p.y, long = Math.hypot(dx, dy) || 1;
    let bend = 0;
    if (two) bend = dx > 0 ? 0.45 : -0.45;
    else {
      const blocked = nodes.some((n) => {
        const r = place[n.name];
        if (n.name === a || n.name === b || dx === 0) return false;
        return r.x > Math.min(p.x, q.x) && r.x < Math.max(p.x, q.x) && Math.abs(p.y + (dy * (r.x - p.x)) / dx - r.y) < 38;
      });
      if (blocked) bend = dx >= 0 ? -0.42 : 0.42;
    }
    const control = { x: (p.x + q.x) / 2 - bend * dy, y: (p.y + q.y) / 2 + bend * dx };
    const trim = (end, gap) => {
      const ux = control.x - end.x, uy = control.y - end.y, l = Math.hypot(ux, uy) || 1;
      return { x: end.x + (ux / l) * gap, y: end.y + (uy / l) * gap };
    };
    const s = trim(p, RADIUS + 4), e = trim(q, RADIUS + 4);
    return `M ${s.x} ${s.y} Q ${control.x} ${control.y} ${e.x} ${e.y}`;
  }

  function drawEdges() {
    const answer = model.get("answer"), open = answer.path || [];
    edges.replaceChildren();
    for (const which of ["directed", "bidirected"]) {
      const two = which === "bidirected";
      for (const [a, b] of model.get(which)) {
        const strong = open.some((pair) => same(pair, a, b, true));
        const label = two ? `hidden cause of ${a} and ${b}` : `arrow from ${a} to ${b}`;
        const g = make("g", {
          class: `edge${two ? " two" : ""}${strong ? " open" : ""}`, tabindex: 0, role: "button",
          "aria-label": `${label}${strong ? ", on the open path" : ""}; press Delete to take it away`,
        }, edges);
        g.dataset.key = `${which} ${a} ${b}`;
        const d = route(a, b, two), head = `url(#${id}-${strong ? "open" : "plain"})`;
        make("path", { class: "grip", d }, g);
        make("path", { class: "line", d, "marker-end": head, ...(two ? { "marker-start": head } : {}) }, g);
        make("title", {}, g).textContent = `${label}: click to take it away`;
        g.addEventListener("click", () => toggle(a, b, which));
        g.addEventListener("keydown", (event) => {
          if (["Enter", " ", "Delete", "Backspace"].includes(event.key)) {
            event.preventDefault();
            event.stopPropagation();
            refocus = a;
            toggle(a, b, which);
          }
        });
      }
    }
    if (refocus) {
      circles.querySelector(`[data-name="${CSS.escape(refocus)}"]`)?.focus();
      refocus = null;
    }
  }

  function drawAnswer() {
    const answer = model.get("answer"), box = el.querySelector(".answer");
    box.classList.toggle("good", Boolean(answer.good));
    box.querySelector("strong").textContent = `${answer.good ? "✔" : "✘"} ${answer.text}`;
    box.querySelector("span").textContent = answer.details;
    for (const g of circles.children) g.classList.toggle("looked", (answer.looks_at || []).includes(g.dataset.name));
    drawEdges();
  }

  function begin(name) {
    from = name;
    for (const g of circles.children) g.classList.toggle("from", g.dataset.name === name);
    help.textContent = name ? `From ${name}: choose where it ends; Escape gives up.` : idle;
  }

  function finish(name) {
    const start = from;
    begin(null);
    if (drawing) drawing.remove();
    drawing = null;
    if (start && name) toggle(start, name, kind());
  }

  function point(event) {
    const box = svg.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
  }

  function under(event) {
    const at = point(event);
    return nodes.find((n) => Math.hypot(place[n.name].x - at.x, place[n.name].y - at.y) < RADIUS * 1.5)?.name;
  }

  for (const n of nodes) {
    const { x, y } = place[n.name];
    const roles = [n.action && "action", n.outcome && "outcome", n.hidden && "hidden"].filter(Boolean);
    const g = make("g", {
      class: ["node", ...roles].join(" "), tabindex: 0, role: "button", "aria-label": [n.name, ...roles].join(", "),
    }, circles);
    g.dataset.name = n.name;
    if (n.action) make("rect", { class: "shape", x: x - 22, y: y - 22, width: 44, height: 44 }, g);
    else make("circle", { class: "shape", cx: x, cy: y, r: RADIUS }, g);
    if (n.outcome) make("circle", { class: "ring", cx: x, cy: y, r: RADIUS - 5 }, g);
    make("text", { x, y }, g).textContent = n.name;
    g.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      if (from && from !== n.name && !drawing) return finish(n.name);
      begin(n.name);
      drawing = make("line", { class: "drawing", x1: x, y1: y, x2: x, y2: y }, svg);
      svg.setPointerCapture(event.pointerId);
    });
    g.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        event.stopPropagation();
        if (from && from !== n.name) finish(n.name);
        else begin(from ? null : n.name);
      }
    });
  }
  svg.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    const at = point(event);
    drawing.setAttribute("x2", at.x);
    drawing.setAttribute("y2", at.y);
  });
  svg.addEventListener("pointerup", (event) => {
    if (!drawing) return;
    const name = under(event);
    if (name === from) {  // a click: the next click says where it ends
      drawing.remove();
      drawing = null;
    } else finish(name);
  });
  el.addEventListener("keydown", (event) => {
    if (event.key === "Escape") finish(null);
  });
  el.querySelector("button").addEventListener("click", () => {
    begin(null);
    model.set("directed", first.directed);
    model.set("bidirected", first.bidirected);
    model.save_changes();
  });
  help.textContent = idle;
  model.on("change:directed change:bidirected", drawEdges);
  model.on("change:answer", drawAnswer);
  drawAnswer();
}

export default { render };
