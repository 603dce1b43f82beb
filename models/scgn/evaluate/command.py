"""`scgn evaluate`: the table of methods, real frames without truth, somebody's paired frames, and
movies for networks that remember.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import torch

from scgn.checkpoint import shipped_names
from scgn.evaluate import EvaluationError
from scgn.evaluate.methods import CLASSICAL, Method, method_named
from scgn.evaluate.movies.real import judge_movie, movie_table
from scgn.evaluate.movies.table import (
    DOSES_E_PER_PX,
    SEEDS,
    ScenarioPlan,
    judge_all,
    scenario_report,
)
from scgn.evaluate.movies.watch import ESTIMATE
from scgn.evaluate.pairs import evaluate_pairs
from scgn.evaluate.real import evaluate_real
from scgn.evaluate.runner import Plan, evaluate, tidy, write_json
from scgn.evaluate.table import report
from scgn.simulate.movies.staged import SCENARIOS

LIBRARIES = ("scipy", "skimage", "pywt")
FRAMES_HELP = "test frames per dose; of a --movie first:last+1; of --scenarios frames of each"
METHOD_HELP = "classical peer, shipped network, or LABEL=PATH of one; all shipped when left out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    plan = Plan()
    parser.add_argument("methods", nargs="*", help=METHOD_HELP)
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md, per-method files OUT/")
    parser.add_argument("--doses", type=float, nargs="+", help="e/px; a few when left out")
    parser.add_argument("--frames", type=frames_of, default=plan.frames, help=FRAMES_HELP)
    parser.add_argument("--side-px", type=int, default=plan.side_px)
    parser.add_argument("--seed", type=int, default=plan.seed, help="of the test scenes")
    parser.add_argument("--pictures", type=int, nargs="+", metavar="N", help="draw these frames")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="movies without a clean frame")
    parser.add_argument("--movie", type=Path, metavar="FILE", help="one movie without a clean one")
    parser.add_argument("--scenarios", nargs="*", help="staged movies, all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of staged movies")
    parser.add_argument("--weights", help="network for --data, the authors' .pth included")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="paired 8-bit frames")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def frames_of(text: str) -> int | slice:
    """A number of frames, or A:B as Python counts; ValueError otherwise."""
    if ":" not in text:
        return int(text)
    first, last = (int(word) if word else None for word in text.split(":"))
    return slice(first, last)


def run(args: argparse.Namespace) -> int:
    """The verb with its parsed arguments; returns the exit status; EvaluationError otherwise."""
    torch.set_num_threads(args.threads)
    if args.movie is not None:
        return real_movie(args)
    if isinstance(args.frames, slice):
        raise EvaluationError(f"--frames: expected a number, got {args.frames}; A:B is of --movie")
    if args.scenarios is not None:
        return scenarios(args)
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise EvaluationError(f"{', '.join(missing)} missing: pip install scgn-live[evaluate]")
    if (args.weights is None) != (args.data is None):
        raise EvaluationError("expected --weights and --data together, got one of them")
    if args.data is not None:
        return finish(args, evaluate_pairs(args.data, methods_of(args, [args.weights])[0]))
    if args.real is not None:
        methods = methods_of(args, args.methods or shipped_names())
        if not args.methods:
            methods = [method for method in methods if method.target == "clean"]
        return finish(args, evaluate_real(args.real, methods))
    return table(args)


def methods_of(args: argparse.Namespace, names: list[str]) -> list[Method]:
    """The methods of these names on the device asked for."""
    return [method_named(name, torch.device(args.device)) for name in names]


def finish(args: argparse.Namespace, result: dict[str, object]) -> int:
    """Print a result as JSON, and write it to OUT.json where --out is given."""
    if args.out is not None:
        write_json(args.out.with_suffix(".json"), result)
    print(json.dumps(tidy(result), indent=1))
    return 0


def real_movie(args: argparse.Namespace) -> int:
    """Networks, running means and Gaussians on one real movie, as Markdown and JSON."""
    frames = args.frames if isinstance(args.frames, slice) else slice(None)
    names = args.methods or shipped_names()
    result = judge_movie(args.movie, names, frames, torch.device(args.device))
    print(movie_table(result), end="\n\n")
    return finish(args, result)


def scenarios(args: argparse.Namespace) -> int:
    """The table of staged movies for one network, or the estimate, as Markdown."""
    if args.out is None or len(args.methods) != 1:
        raise EvaluationError("expected one network (or `estimate`) and --out, its results' folder")
    network = None if args.methods == [ESTIMATE] else args.methods[0]
    plan = ScenarioPlan(
        network, tuple(args.scenarios or SCENARIOS), tuple(args.doses or DOSES_E_PER_PX),
        tuple(args.seeds), args.frames, args.side_px,
    )  # fmt: skip
    result = judge_all(plan, args.out)
    write_json(args.out.with_suffix(".json"), result)
    text = scenario_report(json.loads(args.out.with_suffix(".json").read_text()))
    args.out.with_suffix(".md").write_text(text)
    print(text)
    return 0


def table(args: argparse.Namespace) -> int:
    """The table of all methods on simulated frames, printed as Markdown."""
    if args.out is None:
        raise EvaluationError("expected --out for the table, where its parts are kept, got none")
    methods = methods_of(args, args.methods or [*CLASSICAL, *shipped_names()])
    doses = tuple(args.doses or Plan().doses_e_per_px)
    plan = Plan(doses, args.frames, args.side_px, args.seed)
    quality = evaluate(methods, plan, args.out)
    write_json(args.out.with_suffix(".json"), quality)
    text = report(json.loads(args.out.with_suffix(".json").read_text()))
    args.out.with_suffix(".md").write_text(text)
    print(text)
    if args.pictures:
        from scgn.evaluate.pictures import write_pictures

        for path in write_pictures(methods, quality, plan, args.pictures, args.out):
            print(path)
    return 0
