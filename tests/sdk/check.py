"""The official Python SDKs against a running appliance.

SR_URL, SR_TOKEN (a personal key's), SR_NARROW (only the model "only-this"), SR_SPENT (its budget is spent) and SSL_CERT_FILE come by environment.
Prints one line a check; the exit code is the number of failures. What a provider must have seen is checked by the caller.
"""
import io
import json
import os
import sys
import time
import traceback

import anthropic
import curl_cffi
import httpx
import openai
from google import genai
from google.genai import types

URL, TOKEN, NARROW = os.environ["SR_URL"], os.environ["SR_TOKEN"], os.environ["SR_NARROW"]
SPENT = os.environ["SR_SPENT"]
TEXT = "Hello there, how are you?"
FOREIGN = "sk-proj-a-real-looking-key-that-is-not-ours-0123456789"
failures = 0


def check(name, act):
    global failures
    begun = time.monotonic()
    try:
        told = str(act())[:100]
        print(f"ok   {name:34} {1000 * (time.monotonic() - begun):6.0f} ms  {told}", flush=True)
    except Exception as error:  # a check that fails is told, and the next one runs
        failures += 1
        print(f"FAIL {name}: {error!r}", flush=True)
        traceback.print_exc(limit=-3, file=sys.stdout)


def same(found, expected):
    assert found == expected, (found, expected)
    return found


def raises(kinds, act, judge=lambda error: True):
    try:
        act()
    except kinds as error:
        assert judge(error), repr(error)
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


def user(text):
    return [{"role": "user", "content": text}]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def chats(name, client):
    def stream(model="m", text=TEXT, **more):
        said, usage = "", None
        for chunk in client.chat.completions.create(model=model, messages=user(text), stream=True, **more):
            said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage or usage
        return said, usage

    def tool_stream():
        arguments = ""
        for chunk in client.chat.completions.create(model="m", messages=user("use weather"), tools=TOOLS, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                arguments += call.function.arguments or ""
        return json.loads(arguments)

    def responses_stream():
        numbers, said = [], ""
        with client.responses.stream(model="m", input=TEXT, store=False) as events:
            for event in events:
                numbers.append(event.sequence_number)
                said += event.delta if event.type == "response.output_text.delta" else ""
            final = events.get_final_response()
        same(numbers, list(range(len(numbers))))
        same((said, final.output_text), (TEXT, TEXT))
        return final.usage.total_tokens

    create = client.chat.completions.create
    check(f"{name} chat", lambda: same(create(model="m", messages=user(TEXT)).choices[0].message.content, TEXT))
    check(f"{name} chat stream", lambda: same(stream()[0], TEXT))
    check(f"{name} usage only when asked", lambda: same(stream()[1], None))
    check(f"{name} usage", lambda: stream(stream_options={"include_usage": True})[1].total_tokens)
    check(f"{name} tools", lambda: create(model="m", messages=user("use weather"), tools=TOOLS).choices[0].message.tool_calls[0].function.arguments)
    check(f"{name} tools stream", tool_stream)
    check(f"{name} responses", lambda: same(client.responses.create(model="m", input=TEXT, store=False).output_text, TEXT))
    check(f"{name} responses stream", responses_stream)
    check(f"{name} embeddings", lambda: client.embeddings.create(model="e", input=["a", "b"]).data[1].embedding)
    check(f"{name} models", lambda: [model.id for model in client.models.list()])
    check(f"{name} n=2", lambda: same(len(create(model="m", n=2, messages=user(TEXT)).choices), 2))
    check(f"{name} 20 MB", lambda: same(len(create(model="emu-usage-missing", messages=user("x" * 20_000_000)).choices[0].message.content), 20_000_000))
    check(f"{name} 429", lambda: raises(openai.RateLimitError, lambda: create(model="emu-status-429", messages=user("x")), lambda e: e.response.headers["retry-after"]))
    check(f"{name} 500", lambda: raises(openai.InternalServerError, lambda: create(model="emu-status-500", messages=user("x"))))
    check(f"{name} cut", lambda: raises((httpx.HTTPError, openai.APIError), lambda: stream("emu-cut-2"), lambda e: True))
    check(f"{name} midstream error", lambda: raises(openai.APIError, lambda: stream("emu-midstream-error")))
    check(f"{name} key echoed", lambda: raises(openai.BadRequestError, lambda: create(model="emu-echo-key-raw", messages=user("x")), lambda e: "CANARY" not in e.response.text and "****" in e.response.text))


def openai_refusals(base):
    def client(key, **more):
        return openai.OpenAI(api_key=key, base_url=base, **more)

    def create(client, model="m"):
        return client.chat.completions.create(model=model, messages=user("x"))

    check("foreign key is named", lambda: raises(openai.AuthenticationError, lambda: create(client(FOREIGN)), lambda e: "OPENAI_API_KEY" in str(e) and FOREIGN not in str(e)))
    # The SDK retries twice by itself; a refusal of ours says that it is no use.
    def no_retry():
        sent = []
        counting = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
        told = raises(openai.PermissionDeniedError, lambda: create(client(NARROW, http_client=counting), "another"), lambda e: e.code == "SR-POLICY-002")
        same(len(sent), 1)
        return told
    check("model denied, not retried", no_retry)
    def spent():
        sent = []
        counting = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
        told = raises(openai.APIStatusError, lambda: create(client(SPENT, http_client=counting)), lambda e: e.status_code == 402 and e.code == "SR-BUDGET-001" and "begins anew at" in str(e))
        same(len(sent), 1)
        return told
    check("budget spent, not retried", spent)
    check("model allowed", lambda: create(client(NARROW), "only-this").choices[0].message.content)
    check("retries a 500 twice", lambda: raises(openai.InternalServerError, lambda: create(client(TOKEN, max_retries=2), "emu-status-500")))
    # Only the answer is waited for so briefly: the call has to reach the provider.
    brief = httpx.Timeout(60, read=3)
    check("gives up waiting", lambda: raises(openai.APITimeoutError, lambda: create(client(TOKEN, max_retries=0, timeout=brief), "emu-silent")))


def openai_files(client):
    def batch():
        line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}})
        file = client.files.create(file=("a.jsonl", line.encode()), purpose="batch")
        assert file.id in [one.id for one in client.files.list()]
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        made = client.batches.retrieve(made.id)
        assert "from the batch" in client.files.content(made.output_file_id).text
        return client.files.delete(file.id).deleted

    def upload():
        made = client.uploads.create(bytes=6, filename="x.txt", mime_type="text/plain", purpose="user_data")
        parts = [client.uploads.parts.create(made.id, data=data).id for data in (b"abc", b"def")]
        made = client.uploads.complete(made.id, part_ids=parts)
        return same(client.files.content(made.file.id).read(), b"abcdef")

    def large():
        data = os.urandom(40_000_000)
        file = client.files.create(file=("large.bin", data), purpose="user_data")
        return same(client.files.content(file.id).read() == data, True)

    check("openai files and batches", batch)
    check("openai uploads in parts", upload)
    check("openai file of 40 MB", large)
    check("openai transcription", lambda: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"\0\xff" * 1000)).text)
    check("openai speech", lambda: len(client.audio.speech.create(model="tts-1", voice="alloy", input="x").read()))
    check("openai image", lambda: len(client.images.generate(model="gpt-image-1", prompt="x").data[0].b64_json))
    check("openai moderation", lambda: client.moderations.create(input="x").results[0].flagged)
    check("openai stored response", lambda: client.responses.retrieve(client.responses.create(model="m", input=TEXT).id).status)


def anthropics():
    client = anthropic.Anthropic(api_key=TOKEN, base_url=f"{URL}/anthropic", max_retries=0)
    tools = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]

    def create(model="claude", text=TEXT, client=client, **more):
        return client.messages.create(model=model, max_tokens=9, messages=user(text), **more)

    def stream(model="claude", text=TEXT, **more):
        with client.messages.stream(model=model, max_tokens=9, messages=user(text), **more) as events:
            return "".join(events.text_stream), events.get_final_message()

    def batch():
        params = {"model": "claude", "max_tokens": 5, "messages": user(TEXT)}
        made = client.messages.batches.create(requests=[{"custom_id": "q", "params": params}])
        assert made.results_url.startswith(f"{URL}/anthropic/v1/"), made.results_url
        # The SDK follows the address with its key: it must be ours.
        [result] = list(client.messages.batches.results(made.id))
        return same(result.result.message.content[0].text, "from the batch")

    def files():
        made = client.beta.files.upload(file=("a.txt", b"hello", "text/plain"))
        same(client.beta.files.download(made.id).read(), b"hello")
        return client.beta.files.delete(made.id).id

    check("anthropic", lambda: same(create().content[0].text, TEXT))
    check("anthropic stream", lambda: same(stream()[0], TEXT))
    check("anthropic usage", lambda: stream()[1].usage.output_tokens)
    check("anthropic tool", lambda: create(text="weather", tools=tools).content[0].input)
    check("anthropic tool stream", lambda: stream(text="weather", tools=tools)[1].content[0].input)
    check("anthropic count", lambda: client.messages.count_tokens(model="claude", messages=user(TEXT)).input_tokens)
    check("anthropic models", lambda: [model.id for model in client.models.list()])
    check("anthropic beta", lambda: client.beta.messages.create(model="claude", max_tokens=9, messages=user(TEXT), betas=["context-1m-2025-08-07"]).content[0].text)
    check("anthropic 20 MB", lambda: same(len(create(text="x" * 20_000_000).content[0].text), 20_000_000))
    check("anthropic 529", lambda: raises(anthropic.APIStatusError, lambda: create("emu-status-529"), lambda e: e.status_code == 529))
    check("anthropic cut", lambda: raises((httpx.HTTPError, anthropic.APIError), lambda: stream("emu-cut-4")))
    def spent():
        sent = []
        counting = anthropic.DefaultHttpxClient(event_hooks={"request": [sent.append]})
        spender = anthropic.Anthropic(api_key=SPENT, base_url=f"{URL}/anthropic", http_client=counting)
        told = raises(anthropic.APIStatusError, lambda: create(client=spender), lambda e: e.status_code == 402 and e.body["error"]["type"] == "billing_error" and "begins anew at" in str(e))
        same(len(sent), 1)
        return told
    check("anthropic budget spent, not retried", spent)
    check("anthropic midstream error", lambda: raises(anthropic.APIStatusError, lambda: stream("emu-midstream-error")))
    check("anthropic bearer", lambda: create(client=anthropic.Anthropic(auth_token=TOKEN, api_key=None, base_url=f"{URL}/anthropic")).content[0].text)
    check("anthropic both, one foreign", lambda: raises(anthropic.AuthenticationError, lambda: create(extra_headers={"authorization": f"Bearer {FOREIGN}"}), lambda e: "ANTHROPIC_API_KEY" in str(e)))
    check("anthropic batch results", batch)
    check("anthropic files", files)


def geminis():
    client = genai.Client(api_key=TOKEN, http_options=types.HttpOptions(base_url=f"{URL}/google"))
    generate = client.models.generate_content

    def stream(model="gemini-2.5-flash"):
        chunks = list(client.models.generate_content_stream(model=model, contents=TEXT))
        return "".join(chunk.text or "" for chunk in chunks), chunks[-1].usage_metadata.candidates_token_count

    def tool():
        declared = types.FunctionDeclaration(name="weather", parameters={"type": "OBJECT", "properties": {"city": {"type": "STRING"}}})
        config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
        return generate(model="m", contents="weather please", config=config).function_calls[0].args

    narrow = genai.Client(api_key=NARROW, http_options=types.HttpOptions(base_url=f"{URL}/google"))

    def files():
        # This SDK sends no key to an upload's own address, where Google needs none: so the token is made a header of all.
        options = types.HttpOptions(base_url=f"{URL}/google", client_args={"headers": {"x-goog-api-key": TOKEN}})
        uploader = genai.Client(api_key=TOKEN, http_options=options)
        config = {"mime_type": "text/plain", "display_name": "x"}
        made = uploader.files.upload(file=io.BytesIO(b"hello file"), config=config)
        return same((made.size_bytes, client.files.get(name=made.name).state.name), (10, "ACTIVE"))

    check("gemini", lambda: same(generate(model="gemini-2.5-flash", contents=TEXT).text, TEXT))
    check("gemini stream", lambda: same(stream()[0], TEXT))
    check("gemini tokens", lambda: client.models.count_tokens(model="gemini-2.5-flash", contents=TEXT).total_tokens)
    check("gemini embed", lambda: client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"]).embeddings[0].values[:2])
    check("gemini models", lambda: [model.name for model in client.models.list()])
    check("gemini model", lambda: client.models.get(model="gemini-2.5-flash").name)
    check("gemini tool", tool)
    check("gemini 429", lambda: raises(genai.errors.APIError, lambda: generate(model="emu-status-429", contents=TEXT), lambda e: e.code == 429))
    check("gemini denied", lambda: raises(genai.errors.ClientError, lambda: narrow.models.generate_content(model="another", contents="x"), lambda e: e.code == 403))
    check("gemini upload", files)


def boringssl():
    """Claude Code's TLS library: it is pickier about authorities than OpenSSL is."""
    answer = curl_cffi.get(f"{URL}/openai/v1/models", headers={"authorization": f"Bearer {TOKEN}"}, verify=os.environ["SSL_CERT_FILE"])
    return same(answer.status_code, 200)


check("BoringSSL takes the certificate", boringssl)
base = f"{URL}/openai/v1"
chats("openai", openai.OpenAI(api_key=TOKEN, base_url=base, max_retries=0))
chats("xai", openai.OpenAI(api_key=TOKEN, base_url=f"{URL}/xai/v1", max_retries=0))
openai_refusals(base)
openai_files(openai.OpenAI(api_key=TOKEN, base_url=base, max_retries=0))
anthropics()
geminis()
print(f"{failures} failures")
sys.exit(min(failures, 99))
