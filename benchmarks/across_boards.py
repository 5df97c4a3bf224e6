"""Whether subsets that were chosen on one published board tell the ranking of another one, which nobody looked at.

Other entries, another ruleset, other machines: the hardest judge that there is of a choice. Along the front of the
board in PATH (and for the subsets named with --also) this prints Kendall's tau-b with the whole other board, an
interval over its submissions, and what shuffled workloads give.

    python -m benchmarks.across_boards PATH [--also criteo1tb,ogbg,fastmri]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from perfbench.cli.boards import load_benchmark, print_tables, read_boards
from perfbench.cli.subsets import smaller_boards_of, without_held_out
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats
from perfbench.scoring.agreement import Pairs, pair_signs, tally
from perfbench.scoring.subset_front import Chance, Estimate
from perfbench.scoring.subset_validation import shuffled
from perfbench.scoring.subsets import points
from perfbench.scoring.tables import Table
from perfbench.spec.yaml_files import read_yaml_mapping

_OTHER = Path(__file__).with_name("published_times.yaml")
_NUM_SAMPLES = 4000


def main() -> None:
    """Choose on the board of the logs, judge on the other one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="published logs")
    parser.add_argument("--also", action="append", default=[], help="another subset, its names separated by commas")
    arguments = parser.parse_args()
    read = read_boards([arguments.path], benchmark=None, as_published=False)
    board = without_held_out(read.boards[0], read.logs[0])
    analysis = smaller_boards_of(board, read.logs[0], num_samples=200).subsets
    benchmark, times_s = other_board(_OTHER)
    chosen = [analysis.subsets.names(row.subset) for row in analysis.rows]
    chosen += [names for text in arguments.also if (names := tuple(text.split(","))) not in chosen]
    rows = []
    for names in chosen:
        number = analysis.subsets.number_of(names, has_variants=True)
        own = f"{analysis.subsets.cost[number]:.1%}", f"{analysis.in_sample[number]:.2f}"
        estimate, chance = judged(benchmark, times_s, names)
        shown = f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
        rows.append((*own, shown, f"{chance.mean:.2f}, {chance.high:.2f}", ", ".join(names)))
    header = ("cost", "tau where chosen", f"tau on {len(times_s)} others", "by chance", "workloads")
    caption = f"Chosen on {board.benchmark.name}; judged on {benchmark.name}; interval over its submissions."
    print_tables(Console(), [Table("Chosen on one board, judged on another", header, tuple(rows), caption)])


def other_board(path: Path) -> tuple[Benchmark, Floats]:
    """Read median seconds: ``[submission, workload]``, in the benchmark's order."""
    plain = read_yaml_mapping(path)
    benchmark = load_benchmark(plain["benchmark"])
    columns = [plain["workloads"].index(name) for name in benchmark.workloads]
    return benchmark, np.array(list(plain["times_s"].values()), dtype=np.float64)[:, columns]


def judged(benchmark: Benchmark, times_s: Floats, names: tuple[str, ...], *, seed: int = 0) -> tuple[Estimate, Chance]:
    """Return how far some workloads agree with all of a board, and what shuffled ones give."""
    generator = np.random.default_rng(seed)
    bases = benchmark.base_workloads()
    masks = np.zeros((2, 2 * len(bases)))
    masks[0, [bases.index(name) for name in names]] = 1.0
    masks[1, : len(bases)] = 1.0
    pairs = Pairs.of(len(times_s))
    signs = pair_signs(points(times_s, benchmark), masks, pairs)
    drawn = generator.multinomial(len(times_s), np.full(len(times_s), 1 / len(times_s)), _NUM_SAMPLES)
    counts = (drawn[:, pairs.first] * drawn[:, pairs.second]).astype(np.float64)
    part, whole = signs[:, :1], signs[:, 1:]
    value = float(tally(part, whole).tau()[0])
    mixed = pair_signs(points(shuffled(times_s, benchmark, 400, generator), benchmark), masks, pairs)
    return (
        Estimate.of(value, tally(part, whole, counts).tau()[:, 0]),
        Chance.of(tally(mixed[..., :1], mixed[..., 1:]).tau()[:, 0]),
    )


if __name__ == "__main__":
    main()
