// An exported folder, opened by transformers.js: node transformers_js.mjs MODULES JOB_FILE VECTORS_FILE DTYPE
// Started by benchmarks/compatibility.py. MODULES is the folder of an npm install; the vectors are
// written as JSON, and the last line of the output is JSON: versions, and what was done about the prompt.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, basename } from "node:path";
import { pathToFileURL } from "node:url";
import { embedQueries } from "./embed_queries.mjs";

const [modules, jobFile, vectorsFile, dtype] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/`));
const transformers = await import(pathToFileURL(require.resolve("@huggingface/transformers")));
const job = JSON.parse(readFileSync(jobFile, "utf8"));
const folder = job.folders.onnx;
const queries = await embedQueries(transformers, job, dirname(folder), basename(folder), dtype);
writeFileSync(vectorsFile, JSON.stringify({ queries }));
const versions = { "@huggingface/transformers": transformers.env.version };
console.log(JSON.stringify({ versions, prompt: "before the text" }));
