#!/bin/sh
# Claude Code through Strongroom. Written by every `strongroom up`: copy it before you change it.
set -eu
. {{environment}}
exec claude "$@"
