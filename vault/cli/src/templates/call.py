#!/usr/bin/env python3
"""One call through Strongroom with OpenAI's SDK (pip install openai).

Written by every `strongroom up`: copy it before you change it."""

import ssl

import httpx
from openai import OpenAI

trust = ssl.create_default_context()
if {{authority}}:
    trust.load_verify_locations({{authority}})
with open({{token}}) as file:
    token = file.read().strip()

client = OpenAI(
    base_url="{{base_url}}",
    api_key=token,
    http_client=httpx.Client(verify=trust, timeout=600),
)
answer = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Say hello in five words."}],
)
print(answer.choices[0].message.content)
