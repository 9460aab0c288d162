#!/usr/bin/env node
// One call through Strongroom with OpenAI's SDK (npm install openai).
// Written by every `strongroom up`: copy it before you change it.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const authority = {{authority}};
if (authority && process.env.NODE_EXTRA_CA_CERTS !== authority) {
  // Node reads its extra roots once, when it starts.
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: authority };
  const again = spawnSync(process.execPath, process.argv.slice(1), { env, stdio: "inherit" });
  process.exit(again.status ?? 1);
}

const { createRequire } = await import("node:module");
const { pathToFileURL } = await import("node:url");
// From where it is run: the examples' directory has no packages.
let installed;
try {
  installed = createRequire(`${process.cwd()}/`).resolve("openai");
} catch {
  console.error("OpenAI's SDK is not installed in this directory; run: npm install openai");
  process.exit(1);
}
const { OpenAI } = await import(pathToFileURL(installed).href);

const client = new OpenAI({
  baseURL: "{{base_url}}",
  apiKey: readFileSync({{token}}, "utf8").trim(),
});
const answer = await client.chat.completions.create({
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "Say hello in five words." }],
});
console.log(answer.choices[0].message.content);
