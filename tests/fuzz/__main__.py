"""Any target for as long as you like::

    python -m tests.fuzz                                    which there are
    python -m tests.fuzz TARGET --seconds 60                mutations, made blindly
    python -m tests.fuzz --coverage TARGET --seconds 60     guided by what the code has done
    python -m tests.fuzz --coverage TARGET --seconds 60 --keep

The second needs atheris (``pip install -e .[fuzz]``). Without a limit both go on until they find
something or are stopped. ``--keep`` adds the inputs that led to something new to the target's
corpus, which both start from.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from tests.fuzz import coverage
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target, corpus


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?", choices=list(TARGETS), metavar="TARGET")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    if options.target is None:
        for name, target in TARGETS.items():
            print(f"{name:20}{' '.join((target.__doc__ or '').split())}")
        return 0
    if not options.coverage:
        target, seeds = TARGETS[options.target], corpus(options.target)
        return mutate_blindly(target, seeds, options.seconds, options.runs)
    if not coverage.is_possible():
        print("no atheris here: pip install -e .[fuzz]", file=sys.stderr)
        return 2
    return coverage.run(options.target, options.seconds, options.runs, keep=options.keep)


def mutate_blindly(target: Target, seeds: list[bytes], seconds: int, runs: int) -> int:
    count, data = 0, b""
    random, pool = Random(), [b"", *seeds]
    end = time.monotonic() + seconds
    try:
        while not (runs and count >= runs) and not (seconds and time.monotonic() >= end):
            data = mutate(random.choice(pool), seeds, random)
            target(data)
            count += 1
            pool[random.randrange(len(pool))] = data
            if count % 1000 == 0:
                pool = list(seeds) + pool[-200:]
    except KeyboardInterrupt:
        pass
    except BaseException:
        print(f"after {count} inputs: {data.hex()}", file=sys.stderr)
        raise
    print(f"{count} inputs, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
