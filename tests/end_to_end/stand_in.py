"""Stand in for a stage: write its outs from the data and the settings that it depends on, as if its code computed numbers of them.

python stand_in.py OUT ... -- DEP ... -- PARAM ...

Each out holds one digest, of the bytes below the DEPs and of the values of the PARAMs in params.yaml, which is JSON here. Code is no
part of it: whatever changed in it gives the bytes it gave. Of what `plan` writes only the named files count.
"""

import hashlib
import json
import sys
from pathlib import Path


def content(path: Path) -> bytes:
    if path.is_relative_to("data/plan"):
        return json.dumps(json.loads(path.read_bytes()).get("files")).encode()
    return path.read_bytes()


def value(params: dict, name: str) -> object:
    for key in name.split("."):
        params = params[key]
    return params


words = "\0".join(sys.argv[1:]).split("\0--")
outs, deps, names = ([word for word in part.split("\0") if word] for part in words)
digest = hashlib.sha256()
for dep in map(Path, deps):
    for path in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        if path.is_file():
            digest.update(content(path))
settings = json.loads(Path("params.yaml").read_bytes())
digest.update(json.dumps([value(settings, name) for name in names]).encode())
for out in map(Path, outs):
    (out / "clips").mkdir(parents=True)  # a folder that `dataset.clips` names
    (out / "clips" / "digest").write_text(digest.hexdigest(), encoding="utf-8")
