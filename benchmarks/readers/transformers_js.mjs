// An exported folder, opened by transformers.js: node transformers_js.mjs MODULES JOB_FILE VECTORS_FILE DTYPE
// Started by benchmarks/compatibility.py. MODULES is the folder of an npm install; the vectors are
// written as JSON, and the last line of the output is JSON: versions, and what was done about the prompt.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, basename } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, jobFile, vectorsFile, dtype] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/`));
const { pipeline, env } = await import(pathToFileURL(require.resolve("@huggingface/transformers")));
const job = JSON.parse(readFileSync(jobFile, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(job.folders.onnx);
const embed = await pipeline("feature-extraction", basename(job.folders.onnx), { dtype });
const queries = [];
for (const text of job.queries) {
  const found = await embed(job.prompt + text, { pooling: "mean", normalize: true });
  queries.push(Array.from(found.data));
}
writeFileSync(vectorsFile, JSON.stringify({ queries }));
const versions = { "@huggingface/transformers": env.version };
console.log(JSON.stringify({ versions, prompt: "before the text" }));
