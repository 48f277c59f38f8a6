// What OpenAI's client for Node gets from a server: node embed.mjs BASE_URL KEY MODEL TEXTS_AS_JSON
import OpenAI from "openai";

const [baseURL, apiKey, model, texts] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const input = JSON.parse(texts);
const vectors = async (more) => {
  const answer = await client.embeddings.create({ model, input, ...more });
  return answer.data.map((row) => Array.from(row.embedding));
};

const found = {
  plain: await vectors({ encoding_format: "float" }),
  base64: await vectors({ encoding_format: "base64" }),
  unsaid: await vectors({}),
  cut: await vectors({ dimensions: 8 }),
  models: (await client.models.list()).data.map((one) => one.id),
};
try {
  await client.embeddings.create({ model: "gpt", input });
} catch (error) {
  found.error = { name: error.constructor.name, status: error.status, message: error.message };
}
console.log(JSON.stringify(found));
