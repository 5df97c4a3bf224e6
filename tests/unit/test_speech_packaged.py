"""Small speech corpora that are made from Debian packages; without the packages, from stand-ins in the same form."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from perfbench.compose import compose_workload
from perfbench.data import packages
from perfbench.data.preparation import PrepareRequest
from perfbench.data.speech import asterisk, espeak
from perfbench.data.speech.corpus import recordings, samples_of
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.librispeech_conformer import prepare

SUBSETS = tuple(espeak.NUM_UTTERANCES)
NUM_SPOKEN = dict.fromkeys(SUBSETS, 2) | {"train-clean-100": 24}
SYNTHESIZER = """#!{python} -SE
import math, struct, sys, wave
arguments, rate_hz = sys.argv[1:], {rate_hz}
if "--version" in arguments:
    sys.exit(print("stand-in: 9.{rate_hz}-test  of 1999-2016"))
flag = "-w" if "-w" in arguments else "-o"
text = arguments[-1] if flag == "-w" else arguments[arguments.index("-t") + 1]
tone = [int(9000 * math.sin(i * (len(text) + len(arguments[1])) / 40)) for i in range(3 * rate_hz // 2)]
with wave.open(arguments[arguments.index(flag) + 1], "wb") as file:
    file.setparams((1, 2, rate_hz, 0, "NONE", ""))
    file.writeframes(struct.pack(f"<{{len(tone)}}h", *tone))
"""


def request(destination: Path, dataset: str, **params: object) -> PrepareRequest:
    spec: WorkloadSpec = compose_workload("librispeech_conformer", scale="mini", dataset=dataset)
    return PrepareRequest(
        workload=spec.model_copy(update={"params": spec.params | params}),
        destination=destination,
        source=None,
        progress=lambda what, done, total: None,
        options={},
    )


def install(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of two stand-ins, the only one on PATH."""
    folder = tmp_path / "bin"
    for name, rate_hz in (("espeak-ng", 22_050), ("flite", 16_000)):
        install(folder, name, SYNTHESIZER.format(python=sys.executable, rate_hz=rate_hz))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_spoken_digits_pass_through_the_same_preparation(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "NUM_UTTERANCES", NUM_SPOKEN)
    expected = {"train": 28, "validation": 4, "test": 2}
    asked = request(
        tmp_path / "out",
        "espeak",
        archive_utterances=NUM_SPOKEN,
        expected_examples=expected,
        vocabulary_size=24,
        num_pieces=24,
    )

    manifest = prepare.prepare(asked)

    prepare.verify(asked.workload, tmp_path / "out", prepare_command="the command")
    assert manifest.counts == expected
    assert manifest.origin["packages"] == {"espeak-ng": "9.22050-test", "flite": "9.16000-test"}
    assert not (tmp_path / "out" / "raw").exists()


def test_spoken_strings_differ_and_other_subsets_have_other_voices(programs: Path, tmp_path: Path) -> None:
    origin = espeak.write_corpus(tmp_path, lambda *_: None, num_utterances=NUM_SPOKEN)

    found = {subset: list(recordings(tmp_path / "LibriSpeech" / subset)) for subset in SUBSETS}
    assert {subset: len(spoken) for subset, spoken in found.items()} == NUM_SPOKEN == origin["utterances"]
    texts = [recording.transcript for spoken in found.values() for recording in spoken]
    assert len(set(texts)) == len(texts)
    words = {word for text in texts for word in text.split()}
    assert words <= {word.upper() for word in espeak._DIGITS}
    assert all(3 <= len(text.split()) <= 5 for text in texts)
    speakers = {
        kind: {r.identity.split("-")[0] for subset in SUBSETS if kind in subset for r in found[subset]}
        for kind in ("clean", "other")
    }
    assert len(speakers["clean"]) == len(espeak._CLEAN) == 22
    assert not speakers["clean"] & speakers["other"]
    assert {len(samples_of(recording)) for recording in found["train-clean-100"]} == {24_000}


def test_missing_programs_are_named_together_before_anything_starts(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "flite").unlink()
    with pytest.raises(DataError) as one:
        prepare.required_bytes(request(tmp_path / "out", "espeak"))
    assert str(one.value) == (
        "data set espeak: Debian's flite is not installed: the data set is made from it\n"
        "  hint: as root: apt-get install --no-install-recommends flite; or use data=tones"
    )
    (programs / "espeak-ng").unlink()
    with pytest.raises(DataError, match=r"Debian's espeak-ng and Debian's flite are not installed: .* made from them"):
        prepare.prepare(request(tmp_path / "out", "espeak"))
    assert not list((tmp_path / "out").rglob("*.flac"))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho 'no such voice' >&2; exit 1\n", "no such voice"),
        ("#!/bin/sh\nexit 0\n", "exit status 0, no speech"),
    ],
)
def test_a_program_that_fails_is_named_with_its_voice(
    programs: Path, tmp_path: Path, script: str, message: str
) -> None:
    install(programs, "espeak-ng", script)

    with pytest.raises(DataError, match=rf"espeak-ng -v en-gb -p 40 -s 190: cannot speak '.*': {message}\n  hint: "):
        espeak.write_corpus(tmp_path, lambda *_: None, num_utterances={"dev-clean": 1})


def test_resampling_keeps_a_tone_where_it_is() -> None:
    time_s = np.arange(22_050) / 22_050
    tone = np.round(10_000 * np.sin(2 * np.pi * 1_000 * time_s)).astype(np.int16)

    resampled = espeak.at_corpus_rate(tone, 22_050)

    expected = 10_000 * np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    assert resampled.dtype == np.int16
    assert len(resampled) == 16_000
    assert np.abs(resampled - expected)[200:-200].max() < 40
    assert espeak.at_corpus_rate(tone, 16_000) is tone


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None,
    reason="apt-get install espeak-ng flite: whether rendering repeats was NOT checked",
)
def test_every_voice_speaks_the_same_bytes_twice(tmp_path: Path) -> None:
    counts = {"dev-clean": len(espeak._CLEAN), "dev-other": len(espeak._OTHER)}
    origins = [espeak.write_corpus(tmp_path / name, lambda *_: None, num_utterances=counts) for name in "ab"]

    assert origins[0] == origins[1]
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 * 38, "a file and a list of transcripts for each voice"
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


WORDS = ("ONE", "TWO", "STAR", "POUND", "PRESS", "NOW", "DON'T", "CALL", "YOUR", "NAME", "IS", "NOT")
TEXTS = "; Names: and texts\n\n" + "".join(
    f"menu/p{n}: {WORDS[n % 12]} {WORDS[n // 12]}, please!\n" for n in range(144)
)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """144 prompts where the packages would put them, their sound in 16-bit samples instead of G.722."""
    texts = tmp_path / asterisk.TEXTS.folder / next(iter(asterisk.TEXTS.sha256))
    sounds = tmp_path / asterisk.SOUNDS.folder
    texts.parent.mkdir(parents=True)
    (sounds / "menu").mkdir(parents=True)
    texts.write_bytes(gzip.compress(TEXTS.encode(), mtime=0))
    for number in range(144):
        samples = (np.sin(np.arange(24_000 + number) * 0.1) * 9_000).astype("<i2")
        (sounds / "menu" / f"p{number}.g722").write_bytes(samples.tobytes())
    (sounds / "beep.g722").write_bytes(b"no text")
    for name, paths in (("TEXTS", [texts]), ("SOUNDS", sorted(sounds.rglob("*.g722")))):
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
        package = getattr(asterisk, name)
        known = dict.fromkeys(package.sha256, digest)
        monkeypatch.setattr(asterisk, name, replace(package, version="1", sha256=known))
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path)
    monkeypatch.setattr(asterisk, "_WHEEL", "numpy")
    monkeypatch.setattr(asterisk, "decoded", lambda content: np.frombuffer(content, dtype="<i2"))
    return sounds


def test_recorded_prompts_pass_through_the_same_preparation(prompts: Path, tmp_path: Path) -> None:
    origin = asterisk.write_corpus(tmp_path / "raw", lambda *_: None)
    counts = {subset: len(list(recordings(tmp_path / "raw" / "LibriSpeech" / subset))) for subset in SUBSETS}
    train = sum(count for subset, count in counts.items() if subset.startswith("train"))
    expected = {"train": train, "validation": counts["dev-clean"] + counts["dev-other"], "test": counts["test-clean"]}
    sizes = {"archive_utterances": counts, "expected_examples": expected, "vocabulary_size": 27, "num_pieces": 27}
    asked = request(tmp_path / "out", "asterisk", **sizes)

    manifest = prepare.prepare(asked)

    prepare.verify(asked.workload, tmp_path / "out", prepare_command="the command")
    assert sum(counts.values()) == 144
    assert manifest.counts == expected
    assert origin["utterances"] == counts
    assert manifest.origin["packages"] == [asterisk.TEXTS.origin(), asterisk.SOUNDS.origin()]


def test_a_text_is_in_one_subset_and_every_prompt_keeps_its_own(prompts: Path, tmp_path: Path) -> None:
    asterisk.write_corpus(tmp_path, lambda *_: None)

    found = {subset: list(recordings(tmp_path / "LibriSpeech" / subset)) for subset in SUBSETS}
    texts = [recording.transcript for recording in chain.from_iterable(found.values())]
    assert len(texts) == len(set(texts)) == 144
    lengths = {f"{WORDS[n % 12]} {WORDS[n // 12]} PLEASE": 24_000 + n for n in range(144)}
    assert {r.transcript: len(samples_of(r)) for r in chain.from_iterable(found.values())} == lengths
    assert all(asterisk.subset_of(r.transcript) == subset for subset, spoken in found.items() for r in spoken)


def test_only_texts_whose_wording_is_certain_are_kept() -> None:
    lines = [
        "; A comment: not a text",
        "menu: Press 1, or 9 to 're-enter' it...  Don't!",
        "beep: [a tone]",
        "spy: IAX (note: no two)",
        "join: <beep>",
        "wait: separated by * or #",
        "dial: dial 500 now",
        "h: H.323",
    ]

    found = asterisk.transcripts(gzip.compress("\n".join(lines).encode()))

    assert found == {"menu": "PRESS ONE OR NINE TO RE ENTER IT DON'T"}


def test_everything_that_the_prompts_need_is_named_at_once(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk, "_WHEEL", "no_such_wheel")
    with pytest.raises(DataError) as one:
        prepare.required_bytes(request(tmp_path / "out", "asterisk"))
    assert str(one.value) == (
        "data set asterisk: the wheel no_such_wheel is not installed: the data set is made from it\n"
        "  hint: pip install no_such_wheel; or use data=tones"
    )
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path / "nowhere")
    with pytest.raises(DataError) as three:
        prepare.prepare(request(tmp_path / "out", "asterisk"))
    assert "Debian's asterisk-core-sounds-en and Debian's asterisk-core-sounds-en-g722 and the wheel" in str(
        three.value
    )
    assert "no-install-recommends asterisk-core-sounds-en asterisk-core-sounds-en-g722; pip install" in str(three.value)
    assert "where dpkg leaves out /usr/share/doc, add --reinstall -o Dpkg::Options::=--path-include=" in str(
        three.value
    )


def test_changed_prompts_are_refused(prompts: Path, tmp_path: Path) -> None:
    (prompts / "menu" / "p7.g722").unlink()

    with pytest.raises(DataError, match=r"g722: sha256 .*\n  hint: not as in asterisk-core-sounds-en-g722 1: install"):
        prepare.prepare(request(tmp_path / "out", "asterisk"))


def test_g722_is_decoded_at_its_rate_and_level() -> None:
    av = pytest.importorskip("av", reason="pip install av: decoding of G.722 was NOT checked")
    tone = (9_000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.int16)
    packed = io.BytesIO()
    with av.open(packed, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in chain(stream.encode(frame), stream.encode(None)):
            container.mux(packet)

    found = asterisk.decoded(packed.getvalue())

    assert found.dtype == np.int16
    assert len(found) == 2 * len(packed.getvalue()) == 16_000
    spectrum = np.abs(np.fft.rfft(found.astype(float)))
    assert int(spectrum.argmax()) == 440
    assert found.astype(float).std() == pytest.approx(tone.astype(float).std(), rel=0.05)
    with pytest.raises(DataError, match=r"cannot be decoded as G.722"):
        asterisk.decoded(b"")


@pytest.mark.skipif(
    not (asterisk.TEXTS.is_there() and asterisk.SOUNDS.is_there()),
    reason="apt-get install asterisk-core-sounds-en-g722: its counts were NOT checked",
)
def test_the_installed_prompts_are_those_of_the_workload() -> None:
    (packed,) = asterisk.TEXTS.read(dataset=asterisk.NAME).values()
    texts, sounds = asterisk.transcripts(packed), asterisk.SOUNDS.read(dataset=asterisk.NAME)
    folder = asterisk.SOUNDS.find(dataset=asterisk.NAME)
    names = [str(path.relative_to(folder).with_suffix("")) for path in sounds]
    found = [asterisk.subset_of(texts[name]) for name in names if name in texts]

    expected = compose_workload("librispeech_conformer", scale="mini", dataset="asterisk").params["archive_utterances"]
    assert len(sounds) == 568
    assert {subset: found.count(subset) for subset in SUBSETS} == expected
