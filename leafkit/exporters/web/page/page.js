// The page: a question goes to the engine, which works in a thread of its own, and comes back as
// documents. Their texts enter the page as text alone, never as markup.

const $ = (id) => document.getElementById(id);
const NUM_HITS = 10;
const engine = startEngine();
const waiting = new Map(); // by the question's number: what to do with its answer
let asked = 0;
let about = null;
let pending = false; // a question was asked before the parts were there

/** A worker that has this page's policy: one from an address has that of its own response, and
 * servers of files send none. */
function startEngine() {
  const address = JSON.stringify(new URL("./engine.js", import.meta.url).href);
  const script = new Blob([`import ${address};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(script), { type: "module" });
}

/** The documents nearest to a question: {hits: [{id, text, score, position}], vector, timings}. */
function search(question, k = NUM_HITS) {
  return new Promise((resolve, reject) => {
    asked += 1;
    waiting.set(asked, { resolve, reject });
    engine.postMessage({ number: asked, question, k });
  });
}
globalThis.leafkit = { search };

engine.addEventListener("message", ({ data }) => {
  if (data.about) {
    about = data.about;
    present(data.loaded_ms);
  } else if (data.failure) {
    fail(data.failure);
  } else {
    const { resolve, reject } = waiting.get(data.number);
    waiting.delete(data.number);
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  }
});
engine.addEventListener("error", (event) => {
  fail(`The page's engine does not start: ${event.message || "a file of it is missing"}.`);
});

function present(loaded) {
  document.title = about.name;
  $("name").textContent = about.name;
  const megabytes = (about.bytes / 1e6).toFixed(1);
  $("status").textContent = `Ready: ${megabytes} MB loaded in ${(loaded / 1e3).toFixed(1)} s.`;
  const facts = {
    Space: about.space,
    Documents: about.documents.toLocaleString("en"),
    Dimensions: `${about.dimension}, int8`,
  };
  for (const [name, value] of Object.entries(facts)) {
    const row = document.createElement("div");
    row.append(make("dt", "", name), make("dd", "", value || "not known"));
    $("facts").append(row);
  }
  if (pending) show();
}

async function show() {
  const question = $("query").value.trim();
  if (!question) return;
  if (!about) {
    pending = true; // asked as soon as the parts are there
    return;
  }
  $("notice").hidden = true;
  try {
    const { hits, timings, is_cut, number } = await search(question);
    if (number !== asked) return; // a later question is on its way
    $("hits").replaceChildren(...hits.map(itemOf));
    $("status").textContent =
      `${hits.length} documents: ${ms(timings.embed_ms)} to embed, ${ms(timings.search_ms)} to ` +
      `search.${is_cut ? " The question was too long and was cut." : ""}`;
  } catch (err) {
    fail(`The question could not be answered: ${err.message}`);
  }
}

function itemOf(hit) {
  const item = make("li", "");
  item.dataset.id = hit.id;
  const top = make("div", "top");
  top.append(make("span", "id", hit.id), make("span", "score", hit.score.toFixed(3)));
  const details = document.createElement("details");
  details.append(make("summary", "", hit.text || "(an empty document)"), make("p", "", hit.text));
  item.append(top, details);
  return item;
}

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function ms(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function fail(message) {
  $("notice").textContent = message;
  $("notice").hidden = false;
  $("status").textContent = "";
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
$("status").textContent = "Loading the student and the documents \u2026";
