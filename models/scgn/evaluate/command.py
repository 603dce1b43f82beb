"""`scgn evaluate`: the table of methods, real frames without truth, or somebody's paired frames."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import torch

from scgn.checkpoint import shipped_names
from scgn.evaluate import EvaluationError
from scgn.evaluate.methods import CLASSICAL, Method, method_named
from scgn.evaluate.pairs import evaluate_pairs
from scgn.evaluate.real import evaluate_real
from scgn.evaluate.runner import Plan, evaluate, tidy, write_json
from scgn.evaluate.table import report

LIBRARIES = ("scipy", "skimage", "pywt")
METHOD_HELP = "classical peer, shipped network, or LABEL=PATH of one; all shipped when left out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    plan = Plan()
    parser.add_argument("methods", nargs="*", help=METHOD_HELP)
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md, per-method files OUT/")
    parser.add_argument("--doses", type=float, nargs="+", default=plan.doses_e_per_px, help="e/px")
    parser.add_argument("--frames", type=int, default=plan.frames, help="test frames per dose")
    parser.add_argument("--side-px", type=int, default=plan.side_px)
    parser.add_argument("--seed", type=int, default=plan.seed, help="of the test scenes")
    parser.add_argument("--pictures", type=int, nargs="+", metavar="N", help="draw these frames")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="movies without a clean frame")
    parser.add_argument("--weights", help="network for --data, the authors' .pth included")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="paired 8-bit frames")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(args: argparse.Namespace) -> int:
    """The verb with its parsed arguments; returns the exit status; EvaluationError otherwise."""
    torch.set_num_threads(args.threads)
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


def table(args: argparse.Namespace) -> int:
    """The table of all methods on simulated frames, printed as Markdown."""
    if args.out is None:
        raise EvaluationError("expected --out for the table, where its parts are kept, got none")
    methods = methods_of(args, args.methods or [*CLASSICAL, *shipped_names()])
    plan = Plan(tuple(args.doses), args.frames, args.side_px, args.seed)
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
