import json
import sys

out, seed, x = sys.argv[1:4]
value = float(x) + int(seed) % 5 * 0.01
with open(out + "/m.jsonl", "w") as file:
    file.write(json.dumps({"step": 1, "total": 1, "loss": value}) + "\n")
