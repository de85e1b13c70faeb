"""One repetition, as a process of its own: `python -m benchmarks.outage.one`; prints one JSON line.

A lab wants the main thread, so repetitions side by side are processes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.netns.lab import Lab

from .contender import Contender, Unavailable, Witness
from .contenders import CONTENDERS
from .plays import worse_direction
from .scenarios import SCENARIOS, Scenario
from .site import Site
from .trial import Trial


def repeat(scenario: Scenario, contender: Contender, repetition: int, folder: Path) -> Any:
    """Build the lab, play, evaluate."""
    with Lab() as lab:
        site = Site(lab, scenario.nat)
        state = folder / "state"
        state.mkdir()
        try:
            try:
                addresses = contender.start(site.vps, site.left, site.right, state)
            except Unavailable as reason:
                return {"unavailable": str(reason)}
            trial = Trial(site, contender, addresses, folder, repetition)
            directions = scenario.play(trial)
            result = {
                "worse": worse_direction(directions).as_json(),
                "directions": {name: one.as_json() for name, one in directions.items()},
                "notes": trial.notes,
            }
            if isinstance(contender, Witness):
                result["report"] = contender.report(trial.disturbed_at)
            return result
        finally:
            contender.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("contender", choices=list(CONTENDERS))
    parser.add_argument("repetition", type=int)
    options = parser.parse_args()
    scenario = next(one for one in SCENARIOS if one.name == options.scenario)
    contender = CONTENDERS[options.contender]()
    with tempfile.TemporaryDirectory(prefix="outage-") as folder:
        result = repeat(scenario, contender, options.repetition, Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
