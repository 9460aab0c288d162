#!/bin/sh
# One call through Strongroom with curl. Written by every `strongroom up`: copy it before you change it.
set -eu
if ! [ -r {{token_file}} ]; then
    echo {{no_token}} >&2
    exit 1
fi
. {{environment}}
# The header comes by standard input: everyone on a machine can read the arguments of a process.
printf 'authorization: Bearer %s\n' "$OPENAI_API_KEY" |
    curl --silent --show-error --fail-with-body --header @- \
        --header 'content-type: application/json' \
        --data '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello in five words."}]}' \
        "$OPENAI_BASE_URL/chat/completions"
echo
