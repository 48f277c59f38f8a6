// One Chromium page, driven by lines of JSON: {"call": "keyboard.press", "args": ["Tab"]} calls
// playwright's page.keyboard.press("Tab"); the answer is {"value": ...} or {"error": "..."}.
// {"call": "worker.evaluate", ...} asks the page's first worker likewise, and {"call": "seen"} gives what the page wrote to its console and every address that it asked.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox", // a container's root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const page = await browser.newPage();
page.setDefaultTimeout(180_000); // a busy machine may start a page slowly
const seen = { console: [], requests: [] };
page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => seen.console.push(`error: ${error.stack ?? error}`));
page.on("request", (request) => seen.requests.push(request.url()));
page.on("websocket", (socket) => seen.requests.push(socket.url()));

function call(path, args) {
  if (path === "seen") return seen;
  const names = path.split(".");
  const method = names.pop();
  const [first, rest] = names[0] === "worker" ? [page.workers()[0], names.slice(1)] : [page, names];
  const owner = rest.reduce((found, name) => found[name], first);
  return owner[method](...args);
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { call: path, args = [] } = JSON.parse(line);
    const value = await call(path, args);
    answer = JSON.stringify({ value: value ?? null });
  } catch (err) {
    answer = JSON.stringify({ error: String(err.message ?? err) });
  }
  process.stdout.write(`${answer}\n`);
}
await browser.close();
