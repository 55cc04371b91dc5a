"""A hub that is hostile, broken or slow: each fault is a line, what comes is right or an error, and nothing hangs."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from fake_hub import Answer, Hub, Spoil, commit_of, flipped, on, serve, sibling, whole
from huggingface_hub import constants
from project import tiny_model

from scrub import Results, ScrubError, Settings, known, load_model, prepare
from scrub.cli import _status
from scrub.data.rows import rows
from scrub.models.hub import cache, request
from scrub.models.hub.listing import can_be_file
from scrub.models.model import Model
from scrub.models.place import find_model
from scrub.text.wording import COMMIT_DIGITS

pytestmark = pytest.mark.usefixtures("soon")

NAME = "some-one/tiny"
WEIGHTS = "model.safetensors"


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


@pytest.mark.usefixtures("tiny")
def test_a_copy_that_another_program_brought(offline: Callable[[], None]) -> None:
    """Blobs are called as they must be; which files there should be can't be told, which is said."""
    folder = load_model(NAME).folder
    assert folder is not None
    shutil.rmtree(folder.parents[1] / ".scrub")
    offline()
    model = load_model(NAME)
    assert right(model)
    assert "another program brought it" in model.notes[0]
    for name in ("config.json", WEIGHTS):
        blob = (folder / name).resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert f"{name} is missing or damaged" in fails()
        assert blob.with_name(f"{blob.name}{cache.DAMAGED}").is_file()
        blob.write_bytes(content)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(blob)


def test_a_name_can_say_the_revision(tiny: Hub) -> None:
    first = commit_of(tiny.repositories[NAME])
    model = load_model(f"{NAME}@{first}")
    assert (model.name, model.origin.commit) == (f"{NAME}@{first}", first)
    before = len(tiny.asked)
    assert f"{NAME} on the hub has no revision 'other/branch'" in fails(f"{NAME}@other/branch")
    assert len(tiny.asked) == before + 1, "asking again can't help"
    assert "there is no model 'a/b'" in fails("a/b")
    before = len(tiny.asked)
    assert "there is no model" in fails("a/b@../../x")
    assert len(tiny.asked) == before
    tiny.repositories[NAME]["config.json"] += b" "
    tiny.spoil = on("/config.json", lambda *_: (404, {"X-Error-Code": "EntryNotFound"}, b""))
    assert "config.json: it isn't there" in fails()


def test_the_older_copy_stays_usable_and_is_named(tiny: Hub, offline: Callable[[], None]) -> None:
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
        assert first[:COMMIT_DIGITS] in model.notes[0]
        assert model.roles
    tiny.spoil = lambda _path, _headers, answer: answer
    model = load_model(NAME)
    assert (model.origin.commit, model.notes, model.roles) == (second, (), {})
    offline()
    assert load_model(NAME).origin.commit == second


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
    assert f"{len(away)} files are left out" in model.notes[0]
    assert not [each for each in tmp_path.rglob("x") if each.is_file()]


def test_the_token_goes_to_the_hub_alone(tiny: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert "no address that scrub follows" in model.notes[0]
    tiny.spoil = on("/config.json", lambda path, *_: (302, {"Location": path}, b""))
    assert "without end" in load_model(NAME).notes[0]


@pytest.mark.usefixtures("in_project")
def test_a_model_chooses_no_data_of_the_user(tiny: Hub, tmp_path: Path) -> None:
    config = json.loads(tiny.repositories[NAME]["config.json"])
    Path("data/home").mkdir(exist_ok=True)
    for data in (str(tmp_path), "../private", "words", "data/words", "./words", "file:///x"):
        tiny.repositories[NAME]["config.json"] = json.dumps({**config, "data": data}).encode()
        model = load_model(NAME)
        assert model.data is None
        assert repr(data) in model.notes[0]
    tiny.repositories[NAME]["config.json"] = json.dumps({**config, "data": "some-one/rows"}).encode()
    assert load_model(NAME).data == "some-one/rows"
    quick = Settings(sequences=7, progress=False, dtype="float64", positions="all")
    ready = prepare("induction/naive", NAME, settings=quick)
    assert ready.examples.name == "words", "the study's, whatever a model suggests"


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


@pytest.mark.usefixtures("tiny")
def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"text": "my diary"}\n')
    (tmp_path / "copied" / "inside").mkdir(parents=True)
    (tmp_path / "copied" / "rows.jsonl").symlink_to(secret)
    with pytest.raises(ScrubError, match="leads out of its folder"):
        list(rows(tmp_path / "copied"))
    (tmp_path / "copied" / "rows.jsonl").unlink()
    (tmp_path / "copied" / "inside" / "a.jsonl").write_text('{"text": "theirs"}\n')
    (tmp_path / "copied" / "rows.jsonl").symlink_to("inside/a.jsonl")
    assert list(rows(tmp_path / "copied")) == ["theirs", "theirs"]
    folder = load_model(NAME).folder
    assert folder is not None
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(secret)
    assert right(load_model(NAME))
    assert "diary" in secret.read_text()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("secret")] == ["secret.jsonl"]


def test_a_pointer_of_a_stranger_is_none_of_the_user(tiny: Hub, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.jsonl").write_text('{"text": "my diary"}\n')
    config = json.loads(tiny.repositories[NAME]["config.json"])
    said = {**config, "hub": NAME, "data": str(tmp_path / "private")}
    tiny.repositories[NAME]["config.json"] = json.dumps(said).encode()
    folder = load_model(NAME).folder
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "config.json").write_text(json.dumps({"hub": NAME, "data": "private"}))
    Path("data/private").mkdir(parents=True)
    for spec in (NAME, folder, copied):
        assert load_model(spec).data is None  # type: ignore[arg-type]
    own = Path("models/mine")
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps({"hub": NAME, "data": "private"}))
    assert load_model("mine").data == "private"


@pytest.mark.usefixtures("tiny")
def test_a_cache_that_can_only_be_read(tmp_path: Path, offline: Callable[[], None]) -> None:
    load_model(NAME)
    places = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    folders = [each for each in places if each.is_dir()]
    for each in folders:
        each.chmod(0o555)
    try:
        assert right(load_model(NAME))
        offline()
        assert right(load_model(NAME))
    finally:
        for each in folders:
            each.chmod(0o755)


def test_each_part_that_comes_counts(tiny: Hub) -> None:
    """A file may come in more parts than there are tries, and one that a hub won't go on with begins anew."""
    parts = [0]

    def part(_path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
        _, said, body = answer
        assert isinstance(body, bytes)
        start = int(headers.get("Range", "bytes=0-")[6:-1])
        parts[0] += 1
        size = len(body) // (2 * request.TRIES) + 1
        said = {**said, "Content-Range": f"bytes {start}-"} if start else said
        return 206 if start else 200, {**said, "Content-Length": str(len(body) - start)}, iter([body[start:][:size]])

    tiny.spoil = on(WEIGHTS, part)
    assert right(load_model(NAME))
    assert parts[0] >= 2 * request.TRIES
    blobs = find_model(NAME).folder.parents[1] / "blobs"
    for wrong in ((416, {}, b""), (206, {"Content-Range": "bytes 7-9/10"}, b"xyz")):
        tiny.repositories[NAME]["config.json"] += b" "
        tiny.spoil = on("/config.json", lambda _, headers, answer, wrong=wrong: wrong if "Range" in headers else answer)
        digest = sibling("config.json", tiny.repositories[NAME]["config.json"])["blobId"]
        (blobs / f"{digest}{cache.PARTIAL}").write_bytes(b"{")
        assert right(load_model(NAME))


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{"])
def test_a_memory_of_checks_that_is_none(tiny: Hub, text: str, tmp_path: Path) -> None:
    load_model(NAME)
    (memory,) = (tmp_path / "cache").rglob("checked.json")
    memory.write_text(text)
    assert right(load_model(NAME))
    tiny.repositories[NAME]["config.json"] += b" "
    tiny.spoil = on("/config.json", lambda *_: (302, {"Location": "http://[::1"}, b""))
    assert "no address" in load_model(NAME).notes[0]
