"""From a corpus in the public layout to prepared data: archives, resuming, and every way in which it can be damaged."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from perfbench.compose import compose_workload
from perfbench.data.preparation import Manifest, PrepareRequest, data_folder
from perfbench.data.speech import decoding, tones
from perfbench.data.speech.corpus import recordings, samples_of
from perfbench.data.speech.storage import SplitReader, write_shard
from perfbench.data.speech.tokenizer import Tokenizer
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.librispeech_conformer import prepare
from perfbench.workloads.librispeech_conformer.params import Params

COUNTS = dict.fromkeys(tones.NUM_UTTERANCES, 10) | {"train-clean-100": 80}
EXPECTED = {"train": 100, "validation": 20, "test": 10}


def small(**changes: Any) -> WorkloadSpec:
    spec = compose_workload("librispeech_conformer", scale="mini")
    sizes = {"archive_utterances": COUNTS, "expected_examples": EXPECTED, "vocabulary_size": 40, "num_pieces": 40}
    return spec.model_copy(update={"params": spec.params | sizes | changes})


def request(source: Path | None, destination: Path, workload: WorkloadSpec | None = None) -> PrepareRequest:
    return PrepareRequest(
        workload=workload or small(),
        destination=destination,
        source=source,
        progress=lambda what, done, total: None,
        options={"shard_samples": 100_000},
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    tones.write_corpus(folder, lambda *_: None, num_utterances=COUNTS, seed=3)
    return folder


@pytest.fixture
def copied(corpus: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for file in corpus.rglob("*.*"):
        target = tmp_path / "copy" / file.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path / "copy"


def as_archives(corpus: Path, folder: Path) -> Path:
    """Return the corpus as it is distributed; transcripts stand behind their audio."""
    folder.mkdir()
    for subset in COUNTS:
        with tarfile.open(folder / f"{subset}.tar.gz", "w:gz") as archive:
            root = corpus / "LibriSpeech" / subset
            for file in sorted(root.rglob("*.*"), key=lambda path: (path.suffix == ".txt", path)):
                archive.add(file, arcname=f"LibriSpeech/{subset}/{file.relative_to(root)}")
    return folder


def test_samples_and_labels_come_back_for_every_example(corpus: Path, tmp_path: Path) -> None:
    manifest = prepare.prepare(request(corpus, tmp_path / "out"))

    prepare.verify(small(), tmp_path / "out", prepare_command="the command")
    assert manifest.counts == EXPECTED
    shards = manifest.facts["shards"]
    assert isinstance(shards, list)
    reader, coder = (
        SplitReader(tmp_path / "out", "test", [str(name) for name in shards]),
        Tokenizer.read(tmp_path / "out"),
    )
    stored = sorted(recordings(corpus / "LibriSpeech" / "test-clean"), key=lambda recording: recording.identity)
    assert len(reader) == len(stored) == 10
    for example, recording in enumerate(stored):
        audio, labels = np.zeros(24_320, dtype=np.int16), np.zeros(64, dtype=np.int32)
        count, num_labels = reader.read_audio(example, audio), reader.read_labels(example, labels)
        assert np.array_equal(audio[:count], samples_of(recording))
        assert labels[num_labels - 1] == 2
        assert coder.decode([labels[:num_labels].tolist()]) == [recording.transcript]


def test_archives_and_folders_give_the_same_examples(corpus: Path, tmp_path: Path) -> None:
    from_folder = prepare.prepare(request(corpus, tmp_path / "a"))
    from_archives = prepare.prepare(request(as_archives(corpus, tmp_path / "archives"), tmp_path / "b"))

    assert from_archives.counts == from_folder.counts
    assert from_archives.facts["tokenizer_sha256"] == from_folder.facts["tokenizer_sha256"]
    for split in EXPECTED:
        name = f"{split}.labels.npy"
        assert from_archives.files[name] == from_folder.files[name]


def test_an_interrupted_preparation_continues_to_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    whole = prepare.prepare(request(corpus, tmp_path / "whole"))

    class PowerCutError(Exception):
        pass

    calls = 0
    original = write_shard

    def failing(path: Path, waveforms: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise PowerCutError
        original(path, waveforms)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(decoding, "write_shard", failing)
        prepare.prepare(request(corpus, tmp_path / "cut"))

    assert prepare.prepare(request(corpus, tmp_path / "cut")) == whole
    assert calls == 5


@pytest.mark.parametrize("limits", [{"max_samples": 9_600 - 640}, {"max_characters": 12}])
def test_what_other_limits_left_out_or_kept_is_decoded_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    whole = prepare.prepare(request(corpus, tmp_path / "whole", small(**limits)))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare.prepare(request(corpus, tmp_path / "cut"))

    assert prepare.prepare(request(corpus, tmp_path / "cut", small(**limits))).files == whole.files


def test_too_long_utterances_are_left_out_of_every_split(corpus: Path, tmp_path: Path) -> None:
    manifest = prepare.prepare(request(corpus, tmp_path, small(max_samples=9_600 - 640, max_characters=12)))

    assert all(0 < manifest.counts[split] < EXPECTED[split] for split in EXPECTED)


def first(folder: Path, pattern: str) -> Path:
    return min(folder.rglob(pattern))


def rewrite(pattern: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(subset: Path) -> None:
        path = first(subset, pattern)
        path.write_text(change(path.read_text()))

    return damage


def reencode(rate_hz: int, channels: int, subtype: str) -> Callable[[Path], None]:
    def damage(subset: Path) -> None:
        samples, _ = soundfile.read(first(subset, "*.flac"))
        stacked = np.stack([samples] * channels, axis=1)
        soundfile.write(first(subset, "*.flac"), stacked, rate_hz, subtype=subtype)

    return damage


def cut(subset: Path) -> None:
    path = first(subset, "*.flac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoken_in(num_samples: int) -> Callable[[Path], None]:
    def damage(subset: Path) -> None:
        silence = np.zeros(num_samples, dtype=np.int16)
        soundfile.write(first(subset, "*.flac"), silence, 16_000, subtype="PCM_16")

    return damage


def shortened(subset: Path) -> None:
    """Say in the first block that there are fewer samples: decoders believe it."""
    path = first(subset, "*.flac")
    content = bytearray(path.read_bytes())
    content[25] ^= 1  # the last of the count's 36 bits
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"-0000.flac: cannot be decoded: .*\n  hint: the file is damaged"),
        (lambda s: first(s, "*.flac").write_bytes(b"no audio"), r"-0000.flac: cannot be decoded"),
        (shortened, r"-0000.flac: the file ends early, or holds other samples than its checksum says"),
        (spoken_in(320), r"\d+-\d+-0000: \d+ labels cannot be said in 1 frames: the loss would be infinite"),
        (reencode(8000, 1, "PCM_16"), r"8000 Hz, 1 channels, PCM_16; needed are 16000 Hz, 1 channel, PCM_16"),
        (reencode(16000, 2, "PCM_16"), r"16000 Hz, 2 channels"),
        (reencode(16000, 1, "PCM_24"), r"PCM_24; needed"),
        (lambda s: first(s, "*.flac").unlink(), r"dev-other: 1 transcripts without audio, the first is \d+-\d+-0000"),
        (lambda s: first(s, "*.txt").unlink(), r"-0000.flac: audio without a transcript"),
        (
            rewrite("*.txt", lambda t: t.replace("-0003 ", "-0003\n", 1).split("\n", 4)[3]),
            r"line 1: .* empty transcript",
        ),
        (rewrite("*.txt", str.lower), r"trans.txt, line 1: .* is not A-Z, apostrophe and single spaces"),
        (rewrite("*.txt", lambda t: t + t), r"trans.txt, line 11: .* has a second transcript"),
        (rewrite("*.txt", lambda t: "nonsense\n" + t), r"trans.txt, line 1: 'nonsense' is no utterance of chapter"),
    ],
)
def test_a_damaged_file_is_named(copied: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied / "LibriSpeech" / "dev-other")

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(copied, tmp_path / "out"))

    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_truncated_archive_is_named(corpus: Path, tmp_path: Path) -> None:
    source = as_archives(corpus, tmp_path / "archives")
    packed = source / "dev-clean.tar.gz"
    packed.write_bytes(packed.read_bytes()[:-3000])

    with pytest.raises(DataError, match=r"dev-clean.tar.gz: cannot be unpacked"):
        prepare.prepare(request(source, tmp_path / "out"))


def test_missing_subsets_and_sources_are_named(copied: Path, tmp_path: Path) -> None:
    full = compose_workload("librispeech_conformer", scale="full")
    with pytest.raises(DataError, match=r"needs the public files\n  hint: fetch the archives from openslr.org/12"):
        prepare.prepare(request(None, tmp_path / "out", full))
    with pytest.raises(DataError, match=r"nowhere: the source folder does not exist"):
        prepare.prepare(request(tmp_path / "nowhere", tmp_path / "out"))
    (copied / "LibriSpeech" / "test-clean").rename(copied / "elsewhere")
    with pytest.raises(DataError, match=r"neither a folder test-clean nor an archive test-clean.tar.gz"):
        prepare.required_bytes(request(copied, tmp_path / "out"))


def test_an_incomplete_subset_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test-clean: 10 utterances instead of 11"):
        prepare.prepare(request(corpus, tmp_path, small(archive_utterances=COUNTS | {"test-clean": 11})))


def test_verify_names_what_differs(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data is not prepared"):
        prepare.verify(small(), tmp_path, prepare_command="the command")
    prepare.prepare(request(corpus, tmp_path))

    with pytest.raises(DataError, match=r"test has 10 examples, the workload needs 9"):
        prepare.verify(small(expected_examples={"test": 9}), tmp_path, prepare_command="the command")
    with pytest.raises(DataError, match=r"prepared with max_characters 64, the workload has 63"):
        prepare.verify(small(max_characters=63), tmp_path, prepare_command="the command")
    with pytest.raises(DataError, match=r"max_labels: a transcript of train has \d+ labels, the workload has 5 slots"):
        prepare.verify(small(max_labels=5), tmp_path, prepare_command="the command")
    model = tmp_path / "tokenizer.model"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"another tokenizer \(.*\) than the labels were made with"):
        prepare.verify(small(), tmp_path, prepare_command="the command")
    shard = min(tmp_path.glob("*.i16"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DataError, match=rf"{shard.name}: truncated data file"):
        prepare.verify(small(), tmp_path, prepare_command="the command")


def test_a_tokenizer_of_another_size_than_the_output_layer_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the trained tokenizer has 40 pieces, the workload needs 12"):
        prepare.prepare(request(corpus, tmp_path, small(num_pieces=12)))


def test_a_text_that_the_tokenizer_does_not_cover_is_refused(corpus: Path, tmp_path: Path) -> None:
    prepare.prepare(request(corpus, tmp_path))

    with pytest.raises(DataError, match=r"the tokenizer does not cover 'ÄÖ'"):
        Tokenizer.read(tmp_path).encode("ÄÖ")


def test_the_generated_corpus_is_the_same_every_time(tmp_path: Path) -> None:
    for name in "ab":
        tones.write_corpus(tmp_path / name, lambda *_: None, num_utterances={"dev-clean": 3}, seed=1)
    files = [sorted(path for path in (tmp_path / name).rglob("*.*")) for name in "ab"]

    assert len(files[0]) == 4
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_encoder_frames_of_known_lengths() -> None:
    params = Params.from_mapping(compose_workload("librispeech_conformer", scale="full").params)

    lengths = (0, 400, 16_000, 160_000, 160_001, 320_000)
    assert [params.encoder_frames_of(length) for length in lengths] == [0, 1, 25, 250, 251, 500]


def test_both_scales_keep_prepared_data_apart_from_the_family() -> None:
    folder = data_folder(Path("data"), compose_workload("librispeech_conformer_gelu", scale="full"))

    assert folder == Path("data/librispeech/full/librispeech")
