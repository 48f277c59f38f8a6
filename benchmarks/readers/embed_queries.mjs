// Queries in transformers.js, the same in node (transformers_js.mjs) and in a page
// (transformers_js.html).

// transformers: the module. models: folder or address that holds the exported folder `name`;
// nothing else is asked. Gives the vector of each query of the job, which brings the prompt to put
// before it.
export async function embedQueries({ pipeline, env }, job, models, name, dtype) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = models;
  const embed = await pipeline("feature-extraction", name, { dtype });
  const queries = [];
  for (const text of job.queries) {
    const found = await embed(job.prompt + text, { pooling: "mean", normalize: true });
    queries.push(Array.from(found.data));
  }
  return queries;
}
