// Embeds questions and searches, in a thread of its own: the page stays alive meanwhile.

import * as ort from "./runtime/ort.wasm.min.js";
import { Tokenizer } from "./runtime/tokenizers.min.js";

ort.env.wasm.wasmPaths = {
  mjs: new URL("./runtime/ort-wasm-simd-threaded.js", import.meta.url).href,
  wasm: new URL("./runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};
// more threads need headers (COOP, COEP) that servers of files do not send
ort.env.wasm.numThreads = 1;

const started = performance.now();
const loading = load();
loading.then(
  ({ about }) => postMessage({ about, loaded_ms: performance.now() - started }),
  (err) => postMessage({ failure: `The page cannot be loaded: ${err.message}` }),
);
let turn = Promise.resolve(); // one question after another: a session takes one at a time
self.addEventListener("message", ({ data }) => {
  turn = turn.then(() => answer(data)).then(postMessage, (err) => {
    postMessage({ number: data.number, error: err.message });
  });
});

async function get(name, kind) {
  // asked again whether it is the same: a browser may keep old files for a while by itself, and those
  // of two exports do not belong together
  const response = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name}: status ${response.status}`);
  return response[kind]();
}

async function load() {
  const [about, query, json, graph, codes, lines] = await Promise.all([
    get("page.json", "json"),
    get("query.json", "json"),
    get("tokenizer.json", "json"),
    get("query_int8.onnx", "arrayBuffer"),
    get("documents.i8", "arrayBuffer"),
    get("documents.jsonl", "arrayBuffer"),
  ]);
  if (codes.byteLength !== about.documents * about.dimension)
    throw new Error("documents.i8 is not as long as page.json says");
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return {
    about,
    query,
    session,
    tokenizer: new Tokenizer(json, {}),
    codes: new Int8Array(codes),
    texts: new Lines(new Uint8Array(lines), about.documents),
  };
}

/** Lines of a file, read one by one: most documents are never shown. */
class Lines {
  constructor(bytes, count) {
    this.bytes = bytes;
    this.ends = new Uint32Array(count);
    for (let i = 0, at = 0; i < count; i++) {
      at = bytes.indexOf(10, at);
      if (at < 0) throw new Error("documents.jsonl has fewer lines than page.json says");
      this.ends[i] = at;
      at += 1;
    }
  }

  read(i) {
    const start = i ? this.ends[i - 1] + 1 : 0;
    return JSON.parse(new TextDecoder().decode(this.bytes.subarray(start, this.ends[i])));
  }
}

async function answer({ number, question, k }) {
  const parts = await loading;
  const begun = performance.now();
  const { ids, is_cut } = tokensOf(question, parts);
  const shape = [1, ids.length];
  const { vector } = await parts.session.run({
    input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), shape),
    attention_mask: new ort.Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
  });
  const embedded = performance.now();
  const hits = searchCodes(vector.data, k, parts);
  const searched = performance.now();
  const timings = { embed_ms: embedded - begun, search_ms: searched - embedded };
  return { number, hits, timings, is_cut, vector: [...vector.data] };
}

/** The question's tokens as the model was trained to read them: prompt, cut, special tokens. */
function tokensOf(question, { about, query, tokenizer }) {
  const cleaned = question
    .replace(/^\ufeff+/, "")
    .replaceAll("\0", " ")
    .replace(/\p{Surrogate}/gu, "?") // lone ones alone match
    .trim();
  const text = (query.prompts.query ?? "") + cleaned;
  const inner = tokenizer.encode(text, { add_special_tokens: false }).ids;
  const room = query.max_tokens - about.tokens_before.length - about.tokens_behind.length;
  const ids = [...about.tokens_before, ...inner.slice(0, room), ...about.tokens_behind];
  if (!ids.length) ids.push(query.token_of_empty_text);
  return { ids, is_cut: inner.length > room };
}

/** The k best of all documents: each code's share of the score is its weight times the code. */
function searchCodes(vector, k, { about, codes, texts }) {
  const { documents, dimension, low, step } = about;
  const weights = new Float64Array(dimension);
  let base = 0; // the part of the score that all documents have
  for (let d = 0; d < dimension; d++) {
    weights[d] = vector[d] * step[d];
    base += vector[d] * (low[d] + 128 * step[d]);
  }
  const best = []; // of [score, position], best first; equals in the order of the documents
  for (let row = 0, at = 0; row < documents; row++) {
    let sum = 0;
    for (let d = 0; d < dimension; d++, at++) sum += weights[d] * codes[at];
    if (best.length < k || sum > best.at(-1)[0]) {
      let place = best.length;
      while (place > 0 && best[place - 1][0] < sum) place--;
      best.splice(place, 0, [sum, row]);
      if (best.length > k) best.pop();
    }
  }
  return best.map(([sum, position]) => ({ ...texts.read(position), score: base + sum, position }));
}
