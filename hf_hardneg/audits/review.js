"use strict";

const MARKS = ["query", "shared", "differs"];
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);
const state = { order: "", index: 0, total: 0, unit: null, sequence: [], step: 0, visited: new Map() };
let waiting = Promise.resolve();

function node(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function figure(number) {
  return Number(number.toPrecision(4)).toString();
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, { ...options, cache: "no-store" });
  } catch {
    throw new Error("The server does not answer. Start hf-hardneg review again; every verdict that was shown is kept.");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function load(index, { last = false, open = false } = {}) {
  const found = await ask(`rows?order=${encodeURIComponent(state.order)}&count=1&start=${index}${open ? "&open=1" : ""}`);
  state.total = found.total;
  state.index = found.start;
  state.unit = found.units[0] ?? null;
  if (state.unit !== null) {
    const others = state.unit.negatives.map((_, place) => place).filter((place) => place !== state.unit.place);
    state.sequence = state.unit.negatives.length === 0 ? [] : state.unit.alone ? [state.unit.place] : [state.unit.place, ...others];
    state.step = last ? Math.max(state.sequence.length - 1, 0) : 0;
    if (open) state.step = Math.max(firstOpen(0), 0);
    state.visited.set(state.unit.row, state.index);
  }
  show(found.counts);
}

function firstOpen(from) {
  return state.sequence.findIndex((place, step) => step >= from && state.unit.negatives[place].verdict === null);
}

function marked(runs) {
  const text = node("div", "text");
  for (const [words, mark] of runs) text.append(MARKS.includes(mark) ? node("mark", mark, words) : words);
  return text;
}

function why(document_, unit) {
  const parts = [];
  if (document_.verdict !== null) {
    const name = document_.verdict === 1 ? "relevant" : "irrelevant";
    parts.push(node("span", `said ${name}`, document_.verdict === 1 ? "relevant" : "not relevant"));
  }
  const retrieved = unit.funnel.find((each) => each.step === "retrieved");
  if (document_.rank !== null && document_.rank >= 0) {
    parts.push(`rank ${document_.rank}${retrieved ? ` of ${retrieved.count}` : ""}`);
  }
  if (document_.source !== null) parts.push(`by ${document_.source}`);
  if (document_.score !== null) parts.push(`score ${figure(document_.score)}`);
  if (document_.ratio !== null) parts.push(`${figure(100 * document_.ratio)} % of the best positive's`);
  if (document_.judge !== null) parts.push(`judge ${figure(document_.judge)}`);
  if (document_.id !== null) parts.push(`id ${document_.id}`);
  return node("p", "why", ...parts.map((part) => (typeof part === "string" ? node("span", "", part) : part)));
}

function scale(unit) {
  const dots = [
    ...unit.positives.map((each) => ({ score: each.score, kind: "positive" })),
    ...state.sequence.map((place) => ({ score: unit.negatives[place].score, kind: "negative", place })),
  ].filter((dot) => dot.score !== null);
  if (dots.length === 0) return null;
  const scores = dots.map((dot) => dot.score);
  const low = Math.min(...scores);
  const room = Math.max(...scores) - low || 1;
  const x = (score) => 20 + (560 * (score - low)) / room;
  const line = drawn("svg", { class: "scale", viewBox: "0 0 600 44", role: "img" });
  line.append(drawn("title", {}, "Scores: positives above the line, negatives below it"));
  line.append(drawn("line", { class: "axis", x1: 20, x2: 580, y1: 18, y2: 18 }));
  line.append(drawn("text", { x: 20, y: 42, "text-anchor": "start" }, figure(low)));
  line.append(drawn("text", { x: 580, y: 42, "text-anchor": "end" }, figure(low + room)));
  for (const dot of dots) {
    const isCurrent = dot.kind === "negative" && dot.place === state.sequence[state.step];
    const circle = drawn("circle", {
      class: isCurrent ? "negative current" : dot.kind, cx: x(dot.score), cy: dot.kind === "positive" ? 11 : 25, r: isCurrent ? 6 : 5,
    });
    circle.append(drawn("title", {}, `${dot.kind} ${figure(dot.score)}`));
    line.append(circle);
  }
  return line;
}

function cards(unit) {
  const positives = node("div", "cards", ...unit.positives.map((each) => {
    const score = each.score === null ? [] : [node("p", "why", node("span", "", `score ${figure(each.score)}`))];
    return node("article", "card positive", marked(each.runs), ...score);
  }));
  const negatives = node("div", "cards", ...state.sequence.map((place, step) => {
    const card = node("article", "card negative", marked(unit.negatives[place].runs), why(unit.negatives[place], unit));
    card.setAttribute("aria-current", String(step === state.step));
    card.addEventListener("click", () => { state.step = step; show(); });
    return card;
  }));
  const shown = unit.listed > unit.positives.length ? `${unit.positives.length} of ${unit.listed}` : unit.listed;
  const heading = unit.alone ? "One negative, drawn at random" : `Negatives (${unit.negatives.length})`;
  return node("div", "sides",
    node("section", "", node("h2", "", `Positives (${shown})`), positives),
    node("section", "", node("h2", "", heading), negatives));
}

function funnel(unit) {
  if (unit.funnel.length === 0) return null;
  const most = Math.max(...unit.funnel.map((each) => each.count), 1);
  const rows = unit.funnel.filter((each) => each.count > 0).flatMap((each) => {
    const bar = node("div", "bar");
    bar.style.width = `${(100 * each.count) / most}%`;
    return [node("span", "", each.step), node("div", "track", bar), node("span", "number", String(each.count)), node("span", "")];
  });
  const idle = unit.funnel.filter((each) => each.count === 0).map((each) => each.step);
  const rest = idle.length ? [node("p", "quiet", `Took none: ${idle.join(", ")}.`)] : [];
  const heading = node("h2", "", "What each stage of mining took of the candidates; these negatives passed them all");
  return node("section", "took", heading, node("div", "funnel", ...rows), ...rest);
}

function show(counts) {
  const unit = state.unit;
  at("message").hidden = true;
  if (counts) {
    const where = unit === null ? "the end" : `${(state.index + 1).toLocaleString("en")} of ${state.total.toLocaleString("en")}`;
    at("progress").textContent = `${where} · ${counts.judged.toLocaleString("en")} judged, ${counts.relevant.toLocaleString("en")} relevant`;
  }
  if (unit === null) {
    at("unit").replaceChildren(node("p", "quiet", "Every negative from here on is judged. Press k to go back, or choose another order."));
    return;
  }
  const parts = [node("p", "asked text", unit.query), scale(unit), cards(unit), funnel(unit)];
  at("unit").replaceChildren(...parts.filter((part) => part !== null));
  const current = document.querySelector('[aria-current="true"]');
  if (current) current.scrollIntoView({ block: "nearest" });
}

async function next() {
  if (state.unit === null) return;
  if (state.step + 1 < state.sequence.length) {
    state.step += 1;
    show();
  } else if (state.index + 1 < state.total) {
    await load(state.index + 1);
  }
}

async function previous() {
  if (state.unit !== null && state.step > 0) {
    state.step -= 1;
    show();
  } else if (state.index > 0) {
    await load(state.index - 1, { last: true });
  }
}

async function judge(score) {
  if (state.unit === null || state.sequence.length === 0) return;
  const place = state.sequence[state.step];
  const drawn_ = state.unit.alone;
  const kept = await ask("verdict", { row: state.unit.row, place, score, drawn: drawn_ });
  state.unit.negatives[place].verdict = kept.verdict;
  show(kept.counts);
  const step = firstOpen(state.step);
  if (step >= 0) {
    state.step = step;
    show();
  } else {
    await load(state.index + 1, { open: true });
  }
}

async function undo() {
  const found = await ask("undo", {});
  if (found.row === undefined) {
    show(found.counts);
  } else {
    const index = state.visited.get(found.row);
    await load(index === undefined ? state.index : index);
    const step = state.sequence.indexOf(found.place);
    if (step >= 0 && state.unit.row === found.row) state.step = step;
    show(found.counts);
  }
}

const actions = { j: next, k: previous, y: () => judge(1), n: () => judge(0), u: undo };

function act(action) {
  waiting = waiting.then(action).catch((error) => {
    at("message").textContent = error.message;
    at("message").hidden = false;
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
  const action = actions[event.key.toLowerCase()];
  if (action) {
    event.preventDefault();
    act(action);
  }
});
for (const [id, key] of Object.entries({ next: "j", previous: "k", relevant: "y", irrelevant: "n", undo: "u" })) {
  at(id).addEventListener("click", () => act(actions[key]));
}
at("order").addEventListener("change", (event) => {
  state.order = event.target.value;
  state.visited.clear();
  event.target.blur();
  act(() => load(0, { open: true }));
});
state.order = at("order").value;
act(() => load(0, { open: true }));
