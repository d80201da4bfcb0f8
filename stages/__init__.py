"""One thin file per DVC stage: read params and deps, call `pipeline`, publish outs."""
