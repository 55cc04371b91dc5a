"""A hub that is hostile, broken or slow: each fault is a line, what comes is right or an error, and nothing hangs."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from fake_hub import Answer, Hub, commit_of, sibling
from huggingface_hub import constants
from project import tiny_model

from scrub import Results, ScrubError, Settings, known, load_model, prepare
from scrub.cli import _status
from scrub.models.hub import cache, request
from scrub.models.hub.listing import can_be_file
from scrub.models.model import Model, save_model
from scrub.text.wording import COMMIT_DIGITS

NAME = "some-one/tiny"
WEIGHTS = "model.safetensors"
Spoil = Callable[[str, Mapping[str, str], Answer], Answer]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than part of a second."""
    monkeypatch.setattr(request, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(request, "ANSWER_SECONDS", 0.3)


@pytest.fixture
def tiny(hub: Hub, tmp_path: Path) -> Hub:
    """A hub with one model."""
    save_model(tiny_model().to(torch.float32), tmp_path / "tiny")
    hub.add(NAME, tmp_path / "tiny")
    return hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def right(model: Model) -> bool:
    return torch.equal(model.params["embed.weight"], tiny_model().params["embed.weight"].float())


def fails(spec: str = NAME) -> str:
    """The one line that a load ends with, soon."""
    begun = time.monotonic()
    with pytest.raises(ScrubError) as caught:
        load_model(spec)
    assert time.monotonic() - begun < 3
    assert len(str(caught.value)) < 1200
    assert str(caught.value).isprintable()
    return str(caught.value)


def on(part: str, change: Spoil, times: int = 10**6) -> Spoil:
    """Spoil the answers on paths with a part, so many times."""
    left = [times]

    def spoil(path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
        if part not in path or left[0] == 0:
            return answer
        left[0] -= 1
        return change(path, headers, answer)

    return spoil


def flipped(_path: str, _headers: Mapping[str, str], answer: Answer) -> Answer:
    status, headers, body = answer
    assert isinstance(body, bytes)
    return status, headers, body[:-1] + bytes([body[-1] ^ 1])


def whole(body: bytes, **headers: str) -> Spoil:
    """Another answer in place of the right one."""
    return lambda *_: (200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def dripping() -> Iterator[bytes]:
    for _ in range(30):
        yield b" "
        time.sleep(0.05)


def info(hub: Hub, **changes: object) -> bytes:
    """The listing of the model, with some fields that are others, or are left out where None."""
    files = hub.repositories[NAME]
    said: dict[str, object] = {"sha": commit_of(files), "siblings": [sibling(*each) for each in files.items()]}
    return json.dumps({name: value for name, value in {**said, **changes}.items() if value is not None}).encode()


def test_the_listing_is_asked_for_once(tiny: Hub) -> None:
    assert right(load_model(NAME))
    assert sum("/api/" in path for path in tiny.asked) == 1
    before = len(tiny.asked)
    assert right(load_model(NAME))
    assert len(tiny.asked) == before + 1, "what is here isn't asked for"


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json"])
def test_wrong_bytes_never_pass(tiny: Hub, name: str, offline: Callable[[], None]) -> None:
    tiny.spoil = on(f"/{name}", flipped)
    assert f"{name}: its bytes aren't those that were announced" in fails()
    tiny.spoil = on(f"/{name}", flipped, times=1)
    model = load_model(NAME)
    assert right(model)
    assert model.folder is not None
    blob = (model.folder / name).resolve()
    content = blob.read_bytes()
    for damaged in (flipped("", {}, (200, {}, content))[2], content[:-1], content + b" "):
        assert isinstance(damaged, bytes)
        blob.write_bytes(damaged)  # in the cache, later
        before = len(tiny.asked)
        assert right(load_model(NAME))
        assert any(path.endswith(f"/{name}") for path in tiny.asked[before:]), "it is brought anew"
        assert blob.with_name(f"{blob.name}{cache.DAMAGED}").read_bytes() == damaged, "and is put aside"
    blob.write_bytes(damaged)
    offline()
    said = fails()
    assert f"{name} is missing or damaged" in said
    assert f"'scrub fetch {NAME}' completes it" in said


@pytest.mark.usefixtures("tiny")
def test_a_file_is_looked_at_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = load_model(NAME).folder
    assert folder is not None
    looked: list[Path] = []
    plain = cache.digest_of
    monkeypatch.setattr(cache, "digest_of", lambda path, like: looked.append(path) or plain(path, like))
    load_model(NAME)
    known = len(looked)
    load_model(NAME)
    assert len(looked) == known
    (folder / "config.json").resolve().touch()
    load_model(NAME)
    assert len(looked) == known + 1


@pytest.mark.usefixtures("tiny")
def test_a_copy_that_lacks_files(offline: Callable[[], None]) -> None:
    folder = load_model(NAME).folder
    assert folder is not None
    (folder / "tokenizer.json").resolve().unlink()
    offline()
    said = fails()
    assert "tokenizer.json is missing" in said
    assert f"'scrub fetch {NAME}'" in said


def test_a_name_can_say_the_revision(tiny: Hub) -> None:
    first = commit_of(tiny.repositories[NAME])
    model = load_model(f"{NAME}@{first}")
    assert (model.name, model.origin.commit) == (f"{NAME}@{first}", first)
    assert f"{NAME} on the hub has no revision 'other/branch'" in fails(f"{NAME}@other/branch")
    assert "there is no model 'a/b'" in fails("a/b")
    before = len(tiny.asked)
    assert "there is no model" in fails("a/b@../../x")
    assert len(tiny.asked) == before
    tiny.repositories[NAME]["config.json"] += b" "
    tiny.spoil = on("/config.json", lambda *_: (404, {"X-Error-Code": "EntryNotFound"}, b""))
    assert "config.json: it isn't there" in fails()


def test_the_older_copy_stays_usable_and_is_named(tiny: Hub) -> None:
    first = load_model(NAME).origin.commit
    assert first is not None
    config = json.loads(tiny.repositories[NAME]["config.json"])
    tiny.repositories[NAME]["config.json"] = json.dumps({**config, "roles": {}}).encode()
    second = commit_of(tiny.repositories[NAME])
    for spoil in (
        on("/config.json", flipped),
        on("/resolve/", whole(b"", x="y")),
        on("/api/", lambda *_: (500, {}, b"")),
    ):
        tiny.spoil = spoil
        model = load_model(NAME)
        assert model.origin.commit == first
        assert first[:COMMIT_DIGITS] in model.origin.notes[0]
        assert model.roles
    tiny.spoil = lambda _path, _headers, answer: answer
    model = load_model(NAME)
    assert (model.origin.commit, model.origin.notes, model.roles) == (second, (), {})


def test_a_reset_goes_on_from_where_it_stopped(tiny: Hub) -> None:
    ranges: list[str | None] = []

    def cut(_path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
        ranges.append(headers.get("Range"))
        status, said, body = answer
        assert isinstance(body, bytes)
        if len(ranges) > 1:
            return answer
        return status, {**said, "Content-Length": str(len(body))}, iter([body[:1000]])

    tiny.spoil = on(WEIGHTS, cut)
    assert right(load_model(NAME))
    assert ranges == [None, "bytes=1000-"]


def late(*_: object) -> Answer:
    time.sleep(0.8)
    return 200, {}, b"{}"


def drip(*_: object) -> Answer:
    return 200, {}, dripping()


@pytest.mark.parametrize("part", ["/api/", WEIGHTS])
@pytest.mark.parametrize("fault", [late, drip])
def test_nothing_waits_for_ever(tiny: Hub, part: str, fault: Spoil) -> None:
    tiny.spoil = on(part, fault)
    assert "second" in fails()


@pytest.mark.usefixtures("hub")
def test_headers_that_drip(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            there, _ = server.accept()
            with there:
                for letter in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 40:
                    there.send(bytes([letter]))
                    time.sleep(0.02)

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "doesn't answer within 0.3 seconds" in fails()


def test_nothing_is_larger_than_it_may_be(tiny: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(request, "LARGEST_ANSWER", 10_000)
    large = b" " * 50_000
    tiny.spoil = on("/api/", whole(large))
    assert "more than the 10,000 bytes" in fails()
    tiny.spoil = on("/api/", whole(gzip.compress(large), Content_Encoding="gzip"))
    assert "packed" in fails()
    for headers in ({}, {"Content_Encoding": "gzip"}):
        tiny.spoil = on("/config.json", whole(large, **headers))
        assert "config.json: " in fails()
    written = [each.stat().st_size for each in (tmp_path / "cache").rglob("*") if each.is_file()]
    assert max(written, default=0) < 50_000


def test_a_listing_that_cannot_be_believed(tiny: Hub, tmp_path: Path) -> None:
    files = tiny.repositories[NAME]
    good = [sibling(*each) for each in files.items()]
    for said, message in {
        info(tiny, sha="../../../outside"): "sha",
        info(tiny, sha=None): "sha",
        info(tiny, siblings=None): "siblings",
        info(tiny, siblings=[{**good[0], "size": -1}]): "no files that scrub can read",
        info(tiny, siblings=[{**good[0], "blobId": "../../x"}]): "no files that scrub can read",
        info(tiny, siblings=[{**each, "size": 3} for each in good]): "its bytes aren't",
        b"[]": "all of it",
        b"<html>": "all of it",
        b'{"sha": "' + b"x" * 5000: "all of it",
    }.items():
        tiny.spoil = on("/api/", whole(said))
        assert message in fails() or "more than the 3 bytes" in fails()
    assert not (tmp_path / "outside").exists()
    away = ["", "../x", "/etc/passwd", "a/../../x", "a\\b", "C:x", "a//b", ".", "x\n", "x" * 300]
    assert not any(map(can_be_file, away))
    tiny.spoil = on("/api/", whole(info(tiny, siblings=[*good, *({**good[0], "rfilename": name} for name in away)])))
    model = load_model(NAME)
    assert right(model)
    assert f"{len(away)} files are left out" in model.origin.notes[0]
    assert not [each for each in tmp_path.rglob("x") if each.is_file()]


def test_the_token_goes_to_the_hub_alone(tiny: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_hub import serve

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[tuple[str, str | None]] = []
    other = Hub(repositories=tiny.repositories)

    def note(who: str) -> Spoil:
        def noted(_path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
            seen.append((who, headers.get("Authorization")))
            return answer

        return noted

    with serve(other) as elsewhere:
        other.spoil = note("other")
        here = note("hub")

        def sent_on(path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
            here(path, headers, answer)
            return (302, {"Location": f"{elsewhere}{path}"}, b"") if WEIGHTS in path else answer

        tiny.spoil = sent_on
        assert right(load_model(NAME))
    assert {token for who, token in seen if who == "hub"} == {"Bearer hf_secret"}
    assert [token for who, token in seen if who == "other"] == [None]
    for where in ("file:///etc/passwd", "ftp://a/b", "gopher://x"):
        tiny.repositories[NAME]["config.json"] += b" "
        tiny.spoil = on("/config.json", lambda *_, where=where: (302, {"Location": where}, b""))
        model = load_model(NAME)
        assert "no address that scrub follows" in model.origin.notes[0]
    tiny.spoil = on("/config.json", lambda path, *_: (302, {"Location": path}, b""))
    assert "without end" in load_model(NAME).origin.notes[0]


def test_names_that_look_like_patterns(tiny: Hub) -> None:
    tiny.datasets["some-one/rows"] = {
        "part[1].jsonl": b'{"text": "one"}\n',
        "part*.jsonl": b'{"text": "two"}\n',
        "what?.jsonl": b'{"text": "three"}\n',
    }
    from scrub.data.rows import rows

    assert sorted(map(str, rows("some-one/rows"))) == ["one", "three", "two"]


def test_a_card_names_no_file_of_the_user(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the hub, in a folder that was copied from there, and in what `datasets` saved."""
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"text": "my diary"}\n')
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "rows.jsonl").write_text('{"text": "theirs"}\n')
    for path in (
        f"{secret}",
        "../secret.jsonl",
        "a/../../secret.jsonl",
        f"file://{secret}",
        "http://127.0.0.1:9/x.jsonl",
    ):
        for files in (path, [path], [{"split": "train", "path": [path]}]):
            card = f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(files)}\n---\n# Rows\n"
            hub.datasets["some-one/rows"] = {"rows.jsonl": b'{"text": "theirs"}\n', "README.md": card.encode()}
            (copied / "README.md").write_text(card)
            for words in (["fetch", "some-one/rows"], ["fetch", str(copied)]):
                status = _status(words)
                said = capsys.readouterr()
                assert (status, said.out, said.err.count("\n")) == (2, "", 1)
                assert "which aren't beside it" in said.err
                assert "diary" not in said.err
    from datasets import Dataset

    Dataset.from_dict({"text": ["my diary"]}).save_to_disk(tmp_path / "own")
    Dataset.from_dict({"text": ["theirs"]}).save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    (file,) = (tmp_path / "own").glob("*.arrow")
    for path in (f"../own/{file.name}", str(file)):
        (tmp_path / "saved" / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": path}]}))
        assert _status(["fetch", str(tmp_path / "saved")]) == 2
        assert "which aren't beside it" in capsys.readouterr().err


@pytest.mark.usefixtures("in_project")
def test_a_model_chooses_no_data_of_the_user(tiny: Hub, tmp_path: Path) -> None:
    config = json.loads(tiny.repositories[NAME]["config.json"])
    Path("data/home").mkdir(exist_ok=True)
    for data in (str(tmp_path), "../private", "words", "data/words", "./words", "file:///x"):
        tiny.repositories[NAME]["config.json"] = json.dumps({**config, "data": data}).encode()
        model = load_model(NAME)
        assert model.config.data is None
        assert repr(data) in model.origin.notes[0]
    tiny.repositories[NAME]["config.json"] = json.dumps({**config, "data": "some-one/rows"}).encode()
    assert load_model(NAME).config.data == "some-one/rows"
    quick = Settings(sequences=7, progress=False, dtype="float64", positions="all")
    ready = prepare("induction/naive", NAME, settings=quick)
    assert ready.examples.name == "words", "the study's, whatever a model suggests"


LINES = [json.dumps({"text": f"a text of words {number}"}) for number in range(30)]
TABLE = "text\n" + "".join(f"a text of words {number}\n" for number in range(30))
CARD = "---\nconfigs:\n- config_name: default\n  data_files: inside/*.txt\n---\n"
LAYOUTS: dict[str, dict[str, str]] = {
    "lines": {"train.jsonl": "\n".join(LINES[:10]), "validation.jsonl": "\n".join(LINES[10:])},
    "an array": {"data.json": f"[{','.join(LINES)}]"},
    "a table": {"data/train.csv": TABLE},
    "text": {"book.txt": "\n".join(LINES)},
    "a card": {"README.md": CARD, "inside/a.txt": "\n".join(LINES), "b.txt": "another"},
    "a script beside": {"rows.py": "raise SystemExit", "train.jsonl": "\n".join(LINES)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_fetched_needs_no_network(
    hub: Hub, layout: str, offline: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    from scrub.data.rows import rows

    hub.datasets["some-one/rows"] = {name: text.encode() for name, text in LAYOUTS[layout].items()}
    online = list(rows("some-one/rows"))
    assert _status(["fetch", "some-one/rows"]) == 0, capsys.readouterr().err
    assert not any(path.endswith(".py") for path in hub.asked)
    offline()
    asked = len(hub.asked)
    assert list(rows("some-one/rows")) == online
    assert len(hub.asked) == asked
    (folder,) = (line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines() if " MB)" in line)
    assert list(rows(folder)) == online, "nor does the folder that fetch names"


def test_only_files_that_are_read_are_brought(hub: Hub) -> None:
    from itertools import islice

    from scrub.data.rows import rows

    hub.datasets["some-one/rows"] = {f"data/train-{n}.jsonl": f'{{"text": "{n}"}}\n'.encode() * 300 for n in range(5)}
    hub.datasets["some-one/rows"]["data/test-0.jsonl"] = LINES[0].encode()
    assert len(list(islice(rows("some-one/rows", split="train"), 310))) == 310
    assert [path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path] == ["train-0.jsonl", "train-1.jsonl"]


def test_no_row_fills_the_memory(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from scrub.data import streams
    from scrub.data.rows import rows

    monkeypatch.setattr(streams, "LARGEST_ROW", 1000)
    monkeypatch.setattr(streams, "MOST_VALUES", 1000)
    monkeypatch.setattr(streams, "VALUES_A_ROW", 1000)
    parquet.write_table(pa.table({"input_ids": [[7] * 10_000]}), tmp_path / "ids.parquet")
    hub.datasets["some-one/rows"] = {"a.jsonl": json.dumps({"text": "x" * 5000}).encode()}
    hub.datasets["some-one/ids"] = {"ids.parquet": (tmp_path / "ids.parquet").read_bytes()}
    for name, message in (("some-one/rows", "line 1 of .*a.jsonl"), ("some-one/ids", "10,000 values in 1 rows")):
        with pytest.raises(ScrubError, match=message):
            list(rows(name))


def test_what_is_not_needed_is_never_run(tiny: Hub) -> None:
    """Loading scripts and pickles of a repository aren't even brought."""
    files = tiny.repositories[NAME]
    files |= {"tiny.py": b"raise SystemExit", "modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04."}
    config = json.loads(files["config.json"])
    files["config.json"] = json.dumps({**config, "auto_map": {"AutoModel": "modeling.Evil"}}).encode()
    assert right(load_model(NAME))
    assert not any(path.endswith((".py", ".bin")) for path in tiny.asked)


@pytest.mark.usefixtures("in_project")
def test_a_number_says_which_commit_it_is_from(tiny: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {each.name: each.read_bytes() for each in Path("data/words").iterdir() if each.suffix == ".jsonl"}
    tiny.datasets["some-one/rows"] = words
    commits = commit_of(tiny.repositories[NAME]), commit_of(words)
    on = f"--model {NAME} --data some-one/rows --sequences 23 --positions all --parts k"
    assert _status(["run", "induction/naive", *on.split(), "--json", str(tmp_path / "o.json")]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    found = json.loads((tmp_path / "o.json").read_text())
    model = load_model(NAME)
    assert (found["model_commit"], found["data_commit"], found["weights"]) == (*commits, model.weights_hash)
    assert f"{NAME}@{commits[0][:COMMIT_DIGITS]} ({model.weights_hash[:8]})" in heading
    assert f"some-one/rows@{commits[1][:COMMIT_DIGITS]} ({found['digest'][:8]})" in heading
    pinned = f"--model {NAME}@{commits[0]} --data some-one/rows@{commits[1]} --sequences 23 --positions all --parts k"
    assert _status(["run", "induction/naive", *pinned.split()]) == 0
    assert capsys.readouterr().out.splitlines()[0] == heading
    assert (
        _status(["sweep", "induction/naive", *on.split(), "--workers", "1", "--results", str(tmp_path / "results")])
        == 0
    )
    (stored,) = known(Results(tmp_path / "results"))
    assert stored.result.commits == {name: found[name] for name in ("model_commit", "weights", "data_commit")}
    assert stored.about["data_commit"] == commits[1]
