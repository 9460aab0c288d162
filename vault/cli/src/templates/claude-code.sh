#!/bin/sh
# Claude Code through Strongroom. Written by every `strongroom up`: copy it before you change it.
set -eu
if ! [ -r {{token_file}} ]; then
    echo {{no_token}} >&2
    exit 1
fi
if ! command -v claude >/dev/null; then
    echo "Claude Code is not installed: there is no program 'claude'; next: npm install -g @anthropic-ai/claude-code" >&2
    exit 127
fi
. {{environment}}
exec claude "$@"
