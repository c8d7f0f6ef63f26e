// What makes a page of rollouts answer: repaints its tokens, steps through the group, walks by keyboard. No library, no network.
// It paints as `_span` and `_key` in rollouts.py do.

function element(parent, tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function short(value, signed) {
  const text = String(Number(value.toPrecision(3))).replace("-", "−");
  return signed && value > 0 ? `+${text}` : text;
}

// keep: called with what is chosen, so that Python can know. Returns a function that chooses from outside.
function enhance(root, data, keep = () => {}) {
  root.classList.add("answers");
  const groups = [...root.querySelectorAll(".group")];
  const dialogues = groups.map((group) => [...group.querySelectorAll(".dialogue")]);
  const tokens = new Map(), places = new Map();
  dialogues.flat().forEach((dialogue) => {
    const mine = [...dialogue.querySelectorAll(".t")].sort((a, b) => Number(a.dataset.t) - Number(b.dataset.t));
    tokens.set(dialogue, mine);
    mine.forEach((token, i) => places.set(token, { dialogue, i, given: token.classList.contains("given") }));
  });
  const most = Math.max(...dialogues.map((list) => list.length));
  const state = { colour: data.colour, method: data.method, group: 0, first: 0, columns: Math.min(data.columns, most) };
  const details = root.querySelector(".details"), key = root.querySelector(".key");
  let here = null;

  const quantity = (name = state.colour) => data.colours.find((colour) => colour.name === name);
  const rows = (colour, method) => colour.by[method] || colour.by[""];
  const value = (token, colour, method) => {
    const { dialogue } = places.get(token);
    return rows(colour, method)[Number(dialogue.dataset.row)][Number(token.dataset.t)];
  };

  function paint() {
    const colour = quantity(), { centre, limit } = colour;
    let low = false, high = false;
    for (const list of Object.values(colour.by)) for (const row of list) for (const v of row) {
      if (v !== null) { low = low || v < centre; high = high || v > centre; }
    }
    high = high || !low;
    const both = low && high, signed = both && centre === 0, label = colour.name + ("" in colour.by ? "" : `, ${state.method}`);
    for (const [token, { given }] of places) {
      const v = value(token, colour, state.method);
      token.classList.remove("pos", "neg", "zero");
      let said = given ? "given, not sampled" : "";
      if (v !== null) {
        token.classList.add(v > centre ? "pos" : v < centre ? "neg" : "zero");
        token.style.setProperty("--share", Math.min(1, Math.abs(v - centre) / limit).toFixed(3));
        said += `${said ? ", " : ""}${label} ${short(v, signed)}`;
      }
      token.setAttribute("aria-label", `${token.textContent}: ${said || "not painted"}`);
    }
    for (const turn of root.querySelectorAll(".turn")) {
      const badge = turn.querySelector(".badge");
      if (!badge) continue;
      const found = [...turn.querySelectorAll(".t:not(.given)")].map((token) => value(token, colour, state.method)).filter((v) => v !== null);
      badge.textContent = found.length ? short(found.reduce((a, b) => a + b, 0) / found.length, signed) : "";
    }
    key.querySelector(".from").textContent = short(low ? centre - limit : centre, signed);
    key.querySelector(".to").textContent = short(high ? centre + limit : centre, signed);
    key.querySelector(".bar").className = `bar${both ? "" : low ? " down" : " up"}`;
    key.querySelector(".label").textContent = label;
    key.querySelector(".hint").textContent = `(${both ? "solid line below: above the middle, dotted: below it; " : ""}grey: given, not sampled)`;
    root.setAttribute("aria-label", `${dialogues.flat().length} rollouts, tokens painted by ${label}`);
  }

  function layout() {
    const list = dialogues[state.group];
    state.first = Math.max(0, Math.min(state.first, list.length - state.columns));
    groups.forEach((group, g) => { group.hidden = g !== state.group; });
    groups[state.group].querySelector(".grid").style.setProperty("--columns", Math.min(state.columns, list.length));
    list.forEach((dialogue, i) => { dialogue.hidden = i < state.first || i >= state.first + state.columns; });
    if (!here || !list.includes(places.get(here).dialogue) || places.get(here).dialogue.hidden) {
      reach(tokens.get(list[state.first])[0], false);
    }
  }

  // one token is in the order of Tab; the arrows move which
  function reach(token, focus = true) {
    if (here) { here.tabIndex = -1; places.get(here).dialogue.classList.remove("here"); }
    here = token;
    here.tabIndex = 0;
    if (focus) { here.focus(); tell(here); }
  }

  function tell(token) {
    const { dialogue, given } = places.get(token), turn = token.closest(".turn");
    details.replaceChildren();
    const line = element(details, "div");
    element(line, "span", "token", token.textContent);
    element(line, "span", "", ` ${given ? "given" : "sampled"}, turn ${Number(turn.dataset.turn) + 1} of ${dialogue.querySelector("header").textContent.trim()}`);
    let alone = null;  // quantities that do not depend on the method share a line
    for (const colour of data.colours) {
      const single = "" in colour.by, methods = single ? [""] : data.methods;
      if (methods.every((method) => value(token, colour, method) === null)) continue;
      const list = single && alone ? alone : element(details, "div", "list");
      if (single) alone = list;
      else element(list, "span", "", `${colour.name}:`);
      for (const method of methods) {
        const v = value(token, colour, method);
        const now = colour.name === state.colour && (single || method === state.method);
        element(list, "span", now ? "now" : "", `${single ? colour.name : method} ${v === null ? "–" : short(v, !single)}`);
      }
    }
  }

  function help() {
    details.replaceChildren();
    const more = data.methods.length > 1 ? ", M the method" : "";
    element(details, "div", "help", "Point at a token, or press Tab: then arrows walk over tokens and turns, Shift with ← or → goes to the "
      + `neighbouring rollout, C changes what paints the tokens${more}.`);
  }

  const buttons = [];
  function choose(what, options, current, act) {
    if (options.length < 2) return;
    const box = element(root.querySelector(".switches"), "div", "switch");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", what);
    element(box, "span", "what", what);
    for (const [name, label] of options) {
      const button = element(box, "button", "", label);
      button.type = "button";
      button.addEventListener("click", () => { act(name); refresh(); });
      buttons.push(() => {
        button.setAttribute("aria-pressed", String(current() === name));
        button.disabled = what === "method" && "" in quantity().by;
      });
    }
  }

  function refresh() {
    layout();
    paint();
    buttons.forEach((update) => update());
    if (here === document.activeElement) tell(here);
    keep(state);
  }

  function step(what, options) {
    state[what] = options[(options.indexOf(state[what]) + 1) % options.length];
    refresh();
  }

  choose("painted by", data.colours.map(({ name }) => [name, name]), () => state.colour, (name) => { state.colour = name; });
  choose("method", data.methods.map((name) => [name, name]), () => state.method, (name) => { state.method = name; });
  choose("side by side", [1, 2, 4, 8].filter((n, i, all) => n <= most || all[i - 1] < most).map((n) => [Math.min(n, most), String(Math.min(n, most))]),
    () => state.columns, (n) => { state.columns = n; });
  const bar = root.querySelector(".switches");
  const paged = element(bar, "div", "switch");
  const position = element(paged, "span", "what");
  const move = (label, text, act, possible) => {
    const button = element(paged, "button", "", text);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => { act(); refresh(); });
    buttons.push(() => { button.disabled = !possible(); });
  };
  const size = () => dialogues[state.group].length;
  move("earlier rollouts", "◀", () => { state.first -= state.columns; }, () => state.first > 0);
  move("later rollouts", "▶", () => { state.first += state.columns; }, () => state.first + state.columns < size());
  if (groups.length > 1) {
    move("previous prompt", "▲ prompt", () => { state.group -= 1; state.first = 0; }, () => state.group > 0);
    move("next prompt", "▼ prompt", () => { state.group += 1; state.first = 0; }, () => state.group < groups.length - 1);
  }
  buttons.push(() => {
    const last = Math.min(state.first + state.columns, size());
    const which = last === state.first + 1 ? `${last}` : `${state.first + 1}–${last}`;
    position.textContent = `rollouts ${which} of ${size()}${groups.length > 1 ? `, prompt ${state.group + 1} of ${groups.length}` : ""}`;
    paged.hidden = groups.length < 2 && state.columns >= most;
  });

  function walk(event) {
    const at = places.get(event.target);
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    const mine = tokens.get(at.dialogue), list = dialogues[state.group];
    const turn = (token) => Number(token.closest(".turn").dataset.turn);
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key], upward = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    let next = null;
    if (sideways && event.shiftKey) {
      const neighbour = list[list.indexOf(at.dialogue) + sideways];
      if (neighbour) {
        const index = list.indexOf(neighbour);
        if (index < state.first) state.first = index;
        if (index >= state.first + state.columns) state.first = index - state.columns + 1;
        const there = tokens.get(neighbour);
        next = there.findLast((token) => turn(token) <= turn(event.target)) || there[0];
        next = there.find((token) => turn(token) === turn(next));
        reach(next, false);
        refresh();
      }
    } else if (sideways) next = mine[at.i + sideways];
    else if (upward) {
      const wanted = upward > 0 ? mine.find((token) => turn(token) > turn(event.target))
        : mine.findLast((token) => turn(token) < turn(event.target));
      next = wanted && mine.find((token) => turn(token) === turn(wanted));
    } else if (event.key === "Home") next = mine[0];
    else if (event.key === "End") next = mine[mine.length - 1];
    else if (event.key.toLowerCase() === "c") step("colour", data.colours.map(({ name }) => name));
    else if (event.key.toLowerCase() === "m" && data.methods.length) step("method", data.methods);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (next) reach(next);
  }

  root.addEventListener("keydown", walk);
  root.addEventListener("focusin", (event) => {
    if (!places.has(event.target)) return;
    if (event.target !== here) reach(event.target, false);
    places.get(here).dialogue.classList.add("here");
    tell(here);
  });
  root.addEventListener("mouseover", (event) => { if (places.has(event.target)) tell(event.target); });
  for (const token of places.keys()) token.tabIndex = -1;
  // JupyterLab's own keys (D D deletes a cell) look at the focused element alone, so each has to say that it wants them
  for (const one of [...places.keys(), ...root.querySelectorAll("button")]) one.dataset.lmSuppressShortcuts = "true";
  help();
  refresh();
  return (colour, method) => {
    if (colour === state.colour && method === state.method) return;
    Object.assign(state, { colour, method });
    refresh();
  };
}

export default {
  render({ model, el }) {
    el.innerHTML = model.get("page");
    const set = enhance(el.firstElementChild, model.get("data"), ({ colour, method }) => {
      if (model.get("colour") === colour && model.get("method") === method) return;
      model.set("colour", colour);
      model.set("method", method);
      model.save_changes();
    });
    model.on("change:colour change:method", () => set(model.get("colour"), model.get("method")));
  },
};
