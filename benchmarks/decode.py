"""Beam search of the wmt model with its cache of keys and values, against one that computes every prefix anew.

Full size, untrained weights, the end of a sentence forbidden, so that both decode all tokens; both must give the same.
The plain search reads the source again in every step too, as the predecessor did; what that costs is shown apart.

    python -m benchmarks.decode [--tokens 64] [--sentences 1] [--scale full]
"""

from __future__ import annotations

import argparse
import statistics
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.interleaved import rate_table, ratios, timed
from perfbench.compose import compose_workload
from perfbench.workloads.wmt.beam import BeamSearch
from perfbench.workloads.wmt.model import KeysValues, Pairs, Side, Step, Transformer
from perfbench.workloads.wmt.params import EOS_ID, START_ID, Params

SOURCE_TOKENS = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--sentences", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", default="full")
    arguments = parser.parse_args()
    params = Params.from_mapping(compose_workload("wmt", scale=arguments.scale).params, where="workload.params")
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    model = Transformer(params).eval().to(device)
    sources = random_sources(arguments.sentences, params.vocab_size, device)
    search = BeamSearch(
        num_beams=params.beam_size, max_length=arguments.tokens + 1, length_penalty=params.length_penalty
    )
    with torch.no_grad():
        found = {"cached": cached(model, sources, search), "uncached": uncached(model, sources, search)}
        ways = {
            "uncached": lambda: uncached(model, sources, search),
            "of it the source again": lambda: [model(repeated(sources, search)) for _ in range(arguments.tokens)],
            "cached": lambda: cached(model, sources, search),
        }
        seconds = timed(ways, rounds=arguments.rounds, discarded=0)
    num_tokens = arguments.tokens * arguments.sentences
    console = Console()
    console.print(rate_table("search", seconds, amount=num_tokens, unit="tokens per second", base="uncached"))
    factor = statistics.median(ratios(seconds, "uncached", "cached"))
    reading = statistics.median(seconds["of it the source again"])
    without = statistics.median(
        (slow - reading) / fast for slow, fast in zip(seconds["uncached"], seconds["cached"], strict=True)
    )
    console.print(
        f"{arguments.sentences} sentence(s), {params.beam_size} beams, {arguments.tokens} tokens, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {device.type}"
    )
    console.print(f"cached is {factor:.1f} x as fast; {without:.1f} x where the plain search reads the source once")
    console.print(f"the same tokens: {torch.equal(found['cached'], found['uncached'])}")


def random_sources(count: int, vocab_size: int, device: torch.device) -> Side:
    """Return sentences of random pieces."""
    ids = torch.randint(3, vocab_size, (count, SOURCE_TOKENS), device=device)
    positions = torch.arange(SOURCE_TOKENS, device=device).repeat(count, 1)
    return Side(ids, positions, torch.ones_like(ids))


def without_end(logits: Tensor) -> Tensor:
    """Return logits that never end a sentence."""
    return logits.index_fill(-1, torch.tensor([EOS_ID], device=logits.device), -1e9)


def cached(model: Transformer, sources: Side, search: BeamSearch) -> Tensor:
    """Return the best sequence of each sentence, ``[b, t]``: the workload's way."""
    memory = cast("tuple[KeysValues, ...]", model(sources))
    b, heads, _, channels = memory[0].keys.shape
    shape = (b, heads, search.max_length * search.num_beams, channels)
    cache = tuple(KeysValues(*(layer.keys.new_zeros(shape) for _ in range(2))) for layer in memory)

    def next_logits(tokens: Tensor, index: Tensor, ancestors: Tensor) -> Tensor:
        step = Step(tokens, index, ancestors, memory, sources.segments > 0, cache)
        return without_end(cast("Tensor", model(step)))

    return search.run(next_logits, num_sentences=b, device=sources.ids.device).tokens[:, 0]


def repeated(sources: Side, search: BeamSearch) -> Side:
    """Return every sentence once for each beam."""
    return Side(*(tensor.repeat_interleave(search.num_beams, dim=0) for tensor in sources))


def uncached(model: Transformer, sources: Side, search: BeamSearch) -> Tensor:
    """Return the same from a forward pass over the whole prefix of every beam in every step."""
    b, k = len(sources.ids), search.num_beams
    every_source = repeated(sources, search)
    prefixes = torch.full((b, k, 1), START_ID, device=sources.ids.device)
    scores = torch.full((b, k), -1e7, device=sources.ids.device)
    scores[:, 0] = 0.0
    for length in range(1, search.max_length):
        # The model shifts its targets by one: the last of them is never read.
        ids = torch.nn.functional.pad(prefixes.flatten(0, 1)[:, 1:], (0, 1))
        targets = Side(ids, torch.arange(length, device=ids.device).repeat(b * k, 1), torch.ones_like(ids))
        logits = without_end(cast("Tensor", model(Pairs(every_source, targets)))[:, -1])
        totals = logits.log_softmax(dim=-1).view(b, k, -1) + scores[:, :, None]
        scores, best = totals.flatten(1).topk(k, dim=1)
        parents, tokens = best // totals.shape[2], best % totals.shape[2]
        chosen = prefixes.gather(1, parents[:, :, None].expand(-1, -1, length))
        prefixes = torch.cat([chosen, tokens[:, :, None]], dim=2)
    return prefixes[:, 0]


if __name__ == "__main__":
    main()
