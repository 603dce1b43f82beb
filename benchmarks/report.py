"""The README's table of measured numbers, from the files in results/.

`python -m benchmarks.report` prints them; a test compares them with the README, so that no number
there lacks its file. A figure that depends on a network and is older than the networks that ship is
none: its row says so until its command has run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NETWORKS_SINCE = "2026-12-01"  # the day from which on the shipped networks are the temporal ones
WITHDRAWN = "scgn-compact-clean-81342414"  # of the demo, whose result has no date
AGAIN = "to be measured again: its network was withdrawn"


def result(name: str) -> dict[str, Any]:
    """One result file."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def measured_with(found: dict[str, Any], figure: str) -> str:
    """A figure that depends on a shipped network, if the network still ships."""
    old = found.get("date", NETWORKS_SINCE) < NETWORKS_SINCE or found.get("model") == WITHDRAWN
    return AGAIN if old else figure


def rows() -> list[tuple[str, str, str]]:
    """(what, figure, command) of each line."""
    service, wire, demo = result("bench_service"), result("bench_wire"), result("demo")
    parts = ("pass_through_512", "memory_512", "tiny_256", "preview_256")
    through, memory, tiny, preview = (service[key] for key in parts)
    added = through["added_latency_ms"]
    resident = memory["resident_mb_by_tenth"]
    return [
        (
            "pass-through, 512x512 uint16 over loopback: rate, share of a bare two-hop relay",
            f"{through['rate_fps']['service']:.0f} frames/s, {through['share_of_relay']:.2f}",
            service["command"],
        ),
        (
            f"same at {through['half_rate_fps']:.0f} frames/s: latency added to the relay's, p50 / "
            f"p99, median of rounds (p99 of the quietest round; "
            f"{100 * service['stolen_share']:.0f} % of the machine was stolen)",
            f"{added['p50']:.1f} / {added['p99']:.1f} ms "
            f"({through['quietest_added_p99_ms']:.1f} ms)",
            service["command"],
        ),
        (
            f"resident memory over {memory['sent']:,} frames, first and last tenth",
            f"{resident[0]:.0f} and {resident[-1]:.0f} MB",
            service["command"],
        ),
        (
            "SCGN `tiny-clean`, 256x256, CPU: rate through the whole service; engine p50",
            measured_with(
                service, f"{tiny['rate_fps']:.1f} frames/s; {tiny['engine_ms']['p50']:.0f} ms"
            ),
            service["command"],
        ),
        (
            "student `preview-clean`, 256x256, CPU: rate through the whole service; engine p50",
            measured_with(
                service, f"{preview['rate_fps']:.1f} frames/s; {preview['engine_ms']['p50']:.0f} ms"
            ),
            service["command"],
        ),
        *backend_rows(),
        *holding_rows(),
        (
            "check and decode one camera header (bare msgpack)",
            f"{wire['ingest']['decode_us']:.0f} µs "
            f"({wire['ingest']['bare_msgpack_decode_us']:.1f} µs)",
            wire["command"],
        ),
        (
            f"demo, {demo['frames']} frames: PSNR noisy / best Gaussian / denoised",
            measured_with(
                demo,
                f"{demo['psnr_noisy_db']:.1f} / {demo['psnr_gaussian_db']:.1f} / "
                f"{demo['psnr_denoised_db']:.1f} dB",
            ),
            demo["command"],
        ),
    ]


def backend_rows() -> list[tuple[str, str, str]]:
    """One network a line: the CPU's compiled backend beside the same network in PyTorch."""
    found = result("bench_backends")
    lines = []
    for name, ways in found["networks"].items():
        half, full = ways["openvino bfloat16"], ways["openvino float32"]
        compared = [
            f"{way['times_reference']:.2f}x at {way['agreement_db']:.0f} dB" for way in (full, half)
        ]
        lines.append(
            (
                f"`{name}`, 256x256, CPU: OpenVINO float32 beside PyTorch eager; its ratio and "
                "agreement, the same of bfloat16",
                measured_with(
                    found,
                    f"{full['ms']:.0f} ms beside {ways['reference']['ms']:.0f} ms; "
                    f"{', '.join(compared)}",
                ),
                found["command"],
            )
        )
    return lines


def holding_rows() -> list[tuple[str, str, str]]:
    """What holds under load, swaps, keys, faults and damaged bytes."""
    soak, swaps, curve = result("bench_soak"), result("bench_swaps"), result("bench_curve")
    chaos, fuzz = result("chaos"), result("fuzz")
    run, ends, held = soak["soak"], soak["soak"]["ends"], soak["soak"]["processes"]["frames"]
    latest, block = (soak["beyond"][policy] for policy in ("latest", "block"))
    kills = chaos["next_good_frame_after_kill9_s"]["kill_frame_process_network"]
    kinds, minutes = ("calibrations", "models"), run["sent"] / run["rate_asked_fps"] / 60
    shares = [f"{100 * row['share']:.0f} %" for name, row in curve.items() if "x" in name]
    rate = measured_with(soak, f"{run['rate_asked_fps']:.0f} frames/s, ").removesuffix(AGAIN)
    found = [len(fuzz[verb]["findings"]) for verb in ("wire", "calibrations")]
    return [
        (
            f"`preview-clean`, 256x256, CPU, {minutes:.0f} minutes at {rate}80 % of the capacity, "
            "`latest`: growth of resident memory; descriptors; p99 of the first and the last "
            f"{ends['minutes']} minutes; frames dropped",
            measured_with(
                soak,
                f"{100 * held['growth']:+.1f} %; {held['descriptors']['warm']} and "
                f"{held['descriptors']['end']}; {ends['first_latency_ms']['p99']:.0f} and "
                f"{ends['last_latency_ms']['p99']:.0f} ms; "
                f"{100 * count(run['ledger']['dropped']) / run['sent']:.1f} %",
            ),
            soak["command"],
        ),
        (
            "camera at twice the capacity: with `latest` the p99 age of published frames, in times "
            "of one frame (4 slots); with `block` frames lost",
            measured_with(
                soak,
                f"{latest['p99_age_in_service_times']:.1f}; "
                f"{block['ledger']['expected'] - block['ledger']['published']} of "
                f"{block['ledger']['expected']:,}",
            ),
            soak["command"],
        ),
        (
            f"{swaps['calibrations']['swaps']} calibration and {swaps['models']['swaps']} network "
            "swaps under load: worst extra latency of a frame, in frame times; frames lost, mixed",
            measured_with(
                swaps,
                " and ".join(f"{swaps[kind]['worst_extra_frame_times']:.1f}" for kind in kinds)
                + f"; {sum(map(count, swaps['lost'].values()))}, {len(swaps['mixed_frames'])}",
            ),
            swaps["command"],
        ),
        (
            "pass-through with CURVE beside the same without: rate at 256x256 and 1024x1024",
            " and ".join(shares),
            curve["command"],
        ),
        (
            f"{chaos['strikes']:,} faults at random moments, each of {len(chaos['faults'])} at "
            f"least {chaos['fewest_of_a_fault']} times: frames lost uncounted, hangs, restarts "
            "by hand",
            f"{chaos['frames_lost_uncounted']}, {chaos['hangs']}, {chaos['restarts_by_hand']}",
            chaos["command"],
        ),
        (
            f"next good frame after kill -9 of the frame process, `tiny-clean`, {kills['kills']} "
            "times: median, worst",
            measured_with(chaos, f"{kills['median']:.1f} s, {kills['worst']:.1f} s"),
            chaos["command"],
        ),
        (
            f"{fuzz['wire']['messages']:,} damaged messages and {fuzz['calibrations']['files']:,} "
            "damaged calibration files: crashes, errors without a name, changes of state",
            f"{found[0]} and {found[1]}",
            " && ".join(fuzz[verb]["command"] for verb in ("wire", "calibrations")),
        ),
    ]


def count(bucket: int | dict[str, int]) -> int:
    """Frames in a bucket of the ledger, all reasons together."""
    return sum(bucket.values()) if isinstance(bucket, dict) else bucket


def table() -> str:
    """Markdown."""
    machine = result("bench_service")["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}, Python {machine['python']}"
    lines = [
        f"On {where}, torch {machine['torch']}:",
        "",
        "| what | measured | command |",
        "|---|---|---|",
    ]
    lines += [f"| {what} | {figure} | `{command}` |" for what, figure, command in rows()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
