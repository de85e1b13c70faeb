"""``python -m tests.fuzz NAME [atheris options]``: one target, for as long as you like.

With atheris (``pip install atheris``; it is no dependency) coverage guides it; without, it mutates
blindly until it is stopped or finds something. ``python -m tests.fuzz`` lists the targets.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from tests.fuzz.mutate import mutate


def main(arguments: list[str]) -> int:
    try:
        import atheris  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        atheris = None
    if atheris is None:
        from tests.fuzz.targets import TARGETS, corpus
    else:
        with atheris.instrument_imports(include=["tunnel"]):
            from tests.fuzz.targets import TARGETS, corpus

    if not arguments or arguments[0] not in TARGETS:
        for name, target in TARGETS.items():
            print(f"{name:16}{' '.join((target.__doc__ or '').split())}")
        return 0 if not arguments else 2
    name, *options = arguments
    target, seeds = TARGETS[name], corpus(name)
    if atheris is not None:
        folder = Path(mkdtemp(prefix=f"fuzz-{name}-"))
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], str(folder), *options], target)
        atheris.Fuzz()
        return 0
    print("no atheris here: mutating blindly; Ctrl-C ends it", file=sys.stderr)
    count, data = 0, b""
    random, pool = Random(), list(seeds)
    try:
        while True:
            data = mutate(random.choice(pool), seeds, random)
            target(data)
            count += 1
            pool[random.randrange(len(pool))] = data
            if count % 1000 == 0:
                pool = list(seeds) + pool[-200:]
    except KeyboardInterrupt:
        print(f"{count} inputs, nothing found", file=sys.stderr)
        return 0
    except BaseException:
        print(f"after {count} inputs: {data.hex()}", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
