#!/usr/bin/env python3
"""One call through Strongroom with OpenAI's SDK (pip install openai).

Written by every `strongroom up`: copy it before you change it."""

import os
import sys

if {{bundle}}:
    # Before the SDK is loaded: the public roots and Strongroom's own, for whichever HTTP library it uses.
    os.environ["SSL_CERT_FILE"] = {{bundle}}
try:
    from openai import OpenAI
except ModuleNotFoundError:
    sys.exit("OpenAI's SDK is not installed for this Python; run: pip install openai")

with open({{token}}) as file:
    token = file.read().strip()

client = OpenAI(base_url="{{base_url}}", api_key=token)
answer = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Say hello in five words."}],
)
print(answer.choices[0].message.content)
