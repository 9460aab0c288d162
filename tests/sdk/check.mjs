// The official JavaScript SDKs against a running appliance.
//
// SR_URL, SR_TOKEN (a personal key's), SR_NARROW (only the model "only-this"), SR_SPENT (its budget is spent) and NODE_EXTRA_CA_CERTS come by environment;
// SR_MODULES names the directory that holds node_modules. Prints one line a check; the exit code is the number of failures.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const modules = createRequire(path.join(process.env.SR_MODULES ?? import.meta.dirname, "x.mjs"));
const load = async (name) => import(pathToFileURL(modules.resolve(name)).href);
const { default: OpenAI } = await load("openai");
const { default: Anthropic } = await load("@anthropic-ai/sdk");
const { GoogleGenAI } = await load("@google/genai");

const { SR_URL: url, SR_TOKEN: token, SR_NARROW: narrow, SR_SPENT: spent } = process.env;
const text = "Hello there, how are you?";
const foreign = "sk-proj-a-real-looking-key-that-is-not-ours-0123456789";
const user = (content) => [{ role: "user", content }];
let failures = 0;

async function check(name, act) {
  try {
    const told = JSON.stringify((await act()) ?? null).slice(0, 100);
    console.log(`ok   ${name.padEnd(34)} ${told}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL ${name}`, error);
  }
}

function same(found, expected) {
  assert.deepEqual(found, expected);
  return found;
}

async function raises(act, judge) {
  let result;
  try {
    result = await act();
  } catch (error) {
    assert.ok(judge(error), error);
    return `${error.constructor.name} ${error.message}`;
  }
  throw new Error(`nothing was thrown: ${JSON.stringify(result)}`);
}

async function collect(events, piece) {
  let said = "";
  for await (const event of events) said += piece(event) ?? "";
  return said;
}

const delta = (chunk) => chunk.choices[0]?.delta?.content;
for (const [name, base] of [["openai", "/openai/v1"], ["xai", "/xai/v1"]]) {
  const client = new OpenAI({ apiKey: token, baseURL: url + base, maxRetries: 0 });
  const create = (model, more = {}) => client.chat.completions.create({ model, messages: user(text), ...more });
  const stream = async (model) => collect(await create(model, { stream: true }), delta);
  await check(`${name} chat`, async () => same((await create("m")).choices[0].message.content, text));
  await check(`${name} chat stream`, async () => same(await stream("m"), text));
  await check(`${name} responses`, async () => same((await client.responses.create({ model: "m", input: text, store: false })).output_text, text));
  await check(`${name} responses stream`, async () => {
    const events = client.responses.stream({ model: "m", input: text, store: false });
    same(await collect(events, (event) => (event.type === "response.output_text.delta" ? event.delta : "")), text);
    return (await events.finalResponse()).usage;
  });
  await check(`${name} embeddings`, async () => (await client.embeddings.create({ model: "e", input: "a" })).data[0].embedding);
  await check(`${name} models`, async () => (await client.models.list()).data.length);
  await check(`${name} tools`, async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
    const made = await create("m", { messages: user("use weather"), tools });
    return JSON.parse(made.choices[0].message.tool_calls[0].function.arguments);
  });
  await check(`${name} cut`, () => raises(() => stream("emu-cut-3"), () => true));
  await check(`${name} abort`, () => raises(async () => {
    const stop = new AbortController();
    // By then the provider has it.
    setTimeout(() => stop.abort(), 3000);
    return client.chat.completions.create({ model: "emu-silent", messages: user("x") }, { signal: stop.signal });
  }, (error) => error.constructor.name === "APIUserAbortError"));
  await check(`${name} 20 MB`, async () => {
    const made = await create("emu-usage-missing", { messages: user("x".repeat(20_000_000)) });
    return same(made.choices[0].message.content.length, 20_000_000);
  });
}

const openai = (key, more = {}) => new OpenAI({ apiKey: key, baseURL: `${url}/openai/v1`, ...more });
await check("file", async () => {
  const client = openai(token);
  const file = await client.files.create({ file: new File(["hello"], "a.txt"), purpose: "user_data" });
  return same(await (await client.files.content(file.id)).text(), "hello");
});
await check("transcription, file first", async () => {
  const file = new File([new Uint8Array(300_000)], "a.wav");
  return (await openai(token).audio.transcriptions.create({ file, model: "whisper-1" })).text;
});
await check("transcription, file first, denied", () => raises(() => openai(narrow).audio.transcriptions.create({ file: new File([new Uint8Array(300_000)], "a.wav"), model: "whisper-1" }), (error) => error.status === 403 && error.code === "SR-POLICY-002"));
await check("budget spent, not retried", async () => {
  let sent = 0;
  const counting = (...what) => {
    sent += 1;
    return fetch(...what);
  };
  const told = await raises(() => openai(spent, { fetch: counting }).chat.completions.create({ model: "m", messages: user("x") }), (error) => error.status === 402 && error.code === "SR-BUDGET-001" && error.message.includes("begins anew at"));
  same(sent, 1);
  return told;
});
await check("model denied, not retried", async () => {
  let sent = 0;
  const counting = (...what) => {
    sent += 1;
    return fetch(...what);
  };
  const told = await raises(() => openai(narrow, { fetch: counting }).chat.completions.create({ model: "another", messages: user("x") }), (error) => error.status === 403 && error.code === "SR-POLICY-002");
  same(sent, 1);
  return told;
});
await check("foreign key is named", () => raises(() => openai(foreign).models.list(), (error) => error.status === 401 && error.message.includes("OPENAI_API_KEY") && !error.message.includes(foreign)));

const anthropic = new Anthropic({ apiKey: token, baseURL: `${url}/anthropic`, maxRetries: 0 });
const ask = { model: "claude", max_tokens: 9, messages: user(text) };
const weather = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
await check("anthropic", async () => same((await anthropic.messages.create(ask)).content[0].text, text));
await check("anthropic stream", async () => {
  const stream = anthropic.messages.stream(ask);
  let said = "";
  stream.on("text", (piece) => (said += piece));
  const message = await stream.finalMessage();
  same(said, text);
  return message.usage;
});
await check("anthropic tool stream", async () => (await anthropic.messages.stream({ ...ask, messages: user("weather"), tools: weather }).finalMessage()).content);
await check("anthropic count", () => anthropic.messages.countTokens({ model: "claude", messages: user(text) }));
await check("anthropic 529", () => raises(() => anthropic.messages.create({ ...ask, model: "emu-status-529" }), (error) => error.status === 529));
await check("anthropic midstream error", () => raises(() => anthropic.messages.stream({ ...ask, model: "emu-midstream-error" }).finalMessage(), () => true));
await check("anthropic batch results", async () => {
  const made = await anthropic.messages.batches.create({ requests: [{ custom_id: "q", params: ask }] });
  assert.ok(made.results_url.startsWith(`${url}/anthropic/v1/`), made.results_url);
  return same(await collect(await anthropic.messages.batches.results(made.id), (line) => line.result.message.content[0].text), "from the batch");
});

const google = new GoogleGenAI({ apiKey: token, httpOptions: { baseUrl: `${url}/google` } });
const contents = { model: "gemini-2.5-flash", contents: text };
await check("gemini", async () => same((await google.models.generateContent(contents)).text, text));
await check("gemini stream", async () => same(await collect(await google.models.generateContentStream(contents), (chunk) => chunk.text), text));
await check("gemini count", async () => (await google.models.countTokens(contents)).totalTokens);
await check("gemini upload", async () => {
  const made = await google.files.upload({ file: new Blob(["hello file"], { type: "text/plain" }), config: { mimeType: "text/plain" } });
  return same(Number(made.sizeBytes), 10);
});
console.log(`${failures} failures, node ${process.version}`);
process.exit(Math.min(failures, 99));
