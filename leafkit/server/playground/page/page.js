// The playground: one question over /v1/search in three modes, again whenever a setting moves.
// Texts of documents and of errors enter the page as text alone, never as markup.

import { drawLinks, linkOf } from "./links.js";

const MODES = ["teacher", "student", "asymmetric"];
const SETTLED_MS = 120; // a slider that moves on within it asks once

const $ = (id) => document.getElementById(id);
const controls = ["dimension", "precision", "forget"].map($);
const columns = Object.fromEntries(
  MODES.map((mode) => {
    const section = document.querySelector(`[data-mode=${mode}]`);
    const measure = make("p", "measure");
    const notice = make("p", "notice");
    const hits = make("ol", "hits");
    hits.setAttribute("aria-labelledby", `${mode}-title`);
    notice.hidden = true;
    section.append(measure, notice, hits);
    // refused: the server does not answer this mode, whatever is asked
    return [mode, { section, measure, notice, hits, answer: null, refused: false }];
  }),
);

let key = ""; // here alone: no storage, no address
let dims = [];
let precisions = [];
let asking = new AbortController();
let settling = 0;

class Refusal extends Error {
  constructor(message, status, param) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

async function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal, cache: "no-store" });
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Refusal("The server cannot be reached: it was stopped, or the network is down.", 0);
  }
  const found = await response.json().catch(() => null);
  if (response.ok && found) return found;
  const error = found?.error;
  const told = error?.message ?? `The server answered with status ${response.status}.`;
  throw new Refusal(told, response.status, error?.param);
}

// --- the server: its models, its key

async function open() {
  try {
    const { data } = await ask("v1/models");
    present(data);
  } catch (err) {
    showRefusal(err);
  }
}

function present(rows) {
  const student = rows.find((row) => row.role === "query");
  const teacher = rows.find((row) => row.role === "document");
  document.title = `${student.id}: leafkit playground`;
  $("name").textContent = student.id;
  const all = [student.dimensions, ...student.matryoshka_dimensions];
  dims = [...new Set(all)].sort((a, b) => a - b);
  precisions = [...student.precisions].reverse();
  setRange("dimension", dims);
  setRange("precision", precisions);
  if (dims.length === 1)
    $("dimension-note").textContent = "The teacher has no Matryoshka dimensions";
  if (precisions.length === 1)
    $("precision-note").textContent = "Codes need vectors of length one, which these are not";
  const documents = teacher?.prompt ?? ""; // a server without the teacher does not tell it
  const without = documents ? `${quote(documents)}, as before documents` : "as documents are read";
  const canForget = student.prompt !== documents;
  $("forget").disabled = !canForget;
  $("forget-note").textContent = canForget
    ? `Before a question: ${quote(student.prompt)}. Without it: ${without}`
    : "The questions of this pair have no prompt of their own";
  showFacts({ Space: student.space, Dimensions: dims.toReversed().join(", ") });
  $("unlock").hidden = $("notice").hidden = true;
  if ($("query").value.trim()) search();
}

function setRange(id, values) {
  const range = $(id);
  range.max = values.length - 1;
  range.value = range.max; // the whole vectors; a value beyond the old maximum would be cut to it
  range.disabled = values.length < 2;
  showRange(id, values);
}

function showRange(id, values) {
  const told = String(values[$(id).value] ?? "");
  $(`${id}-shown`).textContent = told;
  $(id).setAttribute("aria-valuetext", told);
}

function showFacts(facts) {
  for (const [name, value] of Object.entries(facts)) {
    let place = document.querySelector(`#facts [data-fact="${name}"]`);
    if (!place) {
      const row = document.createElement("div");
      place = document.createElement("dd");
      place.dataset.fact = name;
      row.append(make("dt", "", name), place);
      $("facts").append(row);
    }
    place.textContent = value;
  }
}

function showRefusal(err) {
  if (err.status === 401) {
    const was = key;
    key = "";
    $("unlock").hidden = false;
    $("notice").textContent = was
      ? "That key is not the server's. Check it and try again."
      : "This server asks for a key.";
    $("key").focus();
  } else {
    $("notice").textContent = sentence(err.message);
  }
  $("notice").hidden = false;
}

function sentence(text) {
  const ended = /[.!?]$/.test(text) ? text : `${text}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

function quote(text) {
  return `\u201c${text.replaceAll("\n", "\u23ce").trim()}\u201d`;
}

// --- the question

async function search() {
  clearTimeout(settling);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const query = $("query").value.trim();
  if (!query || !dims.length) return;
  const body = {
    query,
    dimensions: dims[$("dimension").value],
    precision: precisions[$("precision").value],
    input_type: $("forget").checked ? "document" : "query",
  };
  $("notice").hidden = true;
  $("status").textContent = "Asking \u2026";
  const failures = await Promise.all(MODES.map((mode) => fill(mode, body, signal)));
  if (signal.aborted) return;
  const general = failures.find((err) => err && (err.status === 401 || err.status === 0));
  if (general) showRefusal(general);
  $("status").textContent = summarize();
}

/** Ask in one mode and show what comes; gives the refusal where there was one. */
async function fill(mode, body, signal) {
  const column = columns[mode];
  if (column.refused) return null;
  column.section.setAttribute("aria-busy", "true");
  const started = performance.now();
  let failure = null;
  try {
    const answer = await ask("v1/search", { ...body, mode }, signal);
    if (signal.aborted) return null;
    column.answer = answer;
    showHits(column, performance.now() - started);
    showFacts({ Documents: answer.num_documents.toLocaleString("en") });
  } catch (err) {
    if (signal.aborted) return null;
    failure = err;
    column.answer = null;
    column.refused = err.status === 400 && err.param === "mode";
    column.hits.replaceChildren();
    column.measure.textContent = "";
    column.notice.textContent = sentence(err.message);
  }
  column.notice.hidden = !failure || failure.status === 401 || failure.status === 0;
  column.section.removeAttribute("aria-busy");
  markShared();
  return failure;
}

function showHits(column, total) {
  const { timings, data, truncated, dimensions, precision, input_type: role } = column.answer;
  const lost = role === "document" ? ", without the prompt" : "";
  const cut = truncated ? " The question was too long and was cut." : "";
  column.measure.textContent =
    `${dimensions} dimensions, ${precision}${lost}: ${ms(timings.embed_ms)} to embed, ` +
    `${ms(timings.search_ms)} to search, ${ms(total)} until it was here.${cut}`;
  column.hits.replaceChildren(
    ...data.map((hit) => {
      const item = make("li", "");
      item.dataset.id = hit.id;
      const top = make("div", "top");
      top.append(make("span", "id", hit.id), make("span", "score", hit.score.toFixed(3)));
      const details = document.createElement("details");
      details.append(make("summary", "", hit.text || "(an empty document)"), make("p", "", hit.text));
      item.append(top, details, make("p", "places"));
      return item;
    }),
  );
}

function ms(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Say beside each hit where the other columns have it, and draw what links them. */
function markShared() {
  const places = Object.fromEntries(
    MODES.map((mode) => {
      const rows = columns[mode].answer?.data ?? [];
      return [mode, new Map(rows.map((hit, at) => [hit.id, at + 1]))];
    }),
  );
  const answered = MODES.filter((mode) => columns[mode].answer);
  for (const mode of answered) {
    for (const item of columns[mode].hits.children) {
      const others = answered.filter((other) => other !== mode);
      const found = others.filter((other) => places[other].has(item.dataset.id));
      item.classList.toggle("shared", found.length > 0);
      const told = item.querySelector(".places");
      told.classList.toggle("alone", found.length === 0);
      const where = found.map((other) => `${other} ${places[other].get(item.dataset.id)}`);
      told.textContent = where.join(", ") || (others.length ? "here alone" : "");
    }
  }
  drawLinks();
}

function summarize() {
  const teacher = columns.teacher.answer?.data;
  const others = ["student", "asymmetric"].filter((mode) => columns[mode].answer);
  if (!teacher) return others.length ? "The teacher did not answer: nothing to compare with." : "";
  const ids = new Set(teacher.map((hit) => hit.id));
  const shared = others.map((mode) => {
    const count = columns[mode].answer.data.filter((hit) => ids.has(hit.id)).length;
    return `${mode} has ${count}`;
  });
  const first = `Of the teacher's ${teacher.length} documents `;
  return shared.length ? `${first}${shared.join(", ")}.` : "";
}

// --- what a visitor does

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (dims.length) search();
  else open(); // the server may be there by now
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    $("notice").textContent = "A key has no spaces and no characters beyond ASCII.";
    $("notice").hidden = false;
    return;
  }
  key = given;
  $("key").value = "";
  open();
});
for (const control of controls)
  control.addEventListener("input", () => {
    showRange("dimension", dims);
    showRange("precision", precisions);
    clearTimeout(settling);
    settling = setTimeout(search, SETTLED_MS);
  });
for (const [event, isOn] of [
  ["pointerover", true],
  ["pointerout", false],
  ["focusin", true],
  ["focusout", false],
])
  $("columns").addEventListener(event, ({ target }) => {
    const item = target.closest("li");
    if (item) linkOf(item.dataset.id, isOn);
  });
new ResizeObserver(drawLinks).observe($("columns"));
open();
