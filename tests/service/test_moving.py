"""Tasks as files: an imported task has the exported one's bits, and nothing else is let in."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.stored_zip import unzipped, zipped
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, predict, store_of
from tests.service.stored_values import bytes_in
from tests.service.test_kinds import OF_KIND

ZIP = {"Content-Type": "application/zip"}
LABELS = {"refund": "asks for money back"}


def export(client: httpx.Client, task: str = "bank", **query: Any) -> bytes:
    """Exports, which has to succeed."""
    response = client.get(f"/v1/tasks/{task}/export", params=query)
    assert response.status_code == 200, response.text
    return response.content


def import_(client: httpx.Client, data: bytes, task: str = "bank", **query: Any) -> dict[str, Any]:
    """Imports, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/import", content=data, headers=ZIP, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(client: httpx.Client, data: bytes, status: int = 422, code: str = "invalid_task_file", **query: Any) -> str:
    """The detail of a refusal, which has to be this one, and to leave no task behind."""
    response = client.post("/v1/tasks/refused/import", content=data, headers=ZIP, params=query)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert client.get("/v1/tasks/refused").status_code == 404
    detail: str = response.json()["detail"]
    return detail


def resealed(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """A file that was changed by somebody who knows how to make its digests."""
    files = unzipped(data)
    change(files)
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    del manifest["digest"]
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["digest"] = hashlib.sha256(content.encode()).hexdigest()
    return zipped({"manifest.json": json.dumps(manifest, indent=2).encode() + b"\n", **files})


def edited(name: str, **fields: Any) -> Callable[[dict[str, bytes]], None]:
    """A change of fields of one of the JSON files; ``None`` takes a field away."""

    def change(files: dict[str, bytes]) -> None:
        found = {**json.loads(files[name]), **fields}
        files[name] = json.dumps({key: value for key, value in found.items() if value is not ...}).encode()

    return change


def with_weights(**weights: Any) -> Callable[[dict[str, bytes]], None]:
    """A change of the weights."""

    def change(files: dict[str, bytes]) -> None:
        found = safetensors.numpy.load(files["adapter.safetensors"])
        named = {name.replace("_", "."): weight for name, weight in weights.items()}
        files["adapter.safetensors"] = safetensors.numpy.save({**found, **named})

    return change


def with_examples(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[dict[str, bytes]], None]:
    """A change of the examples, with the digest that a support set has."""

    def changed(files: dict[str, bytes]) -> None:
        rows = [json.loads(line) for line in files["examples.jsonl"].splitlines()]
        change(rows)
        encoded = [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows]
        rest = json.loads(files["support.json"])
        content = hashlib.sha256(json.dumps(sorted(rest["descriptions"].items())).encode())
        for row in encoded:
            content.update(b"\n" + row)
        files["examples.jsonl"] = b"".join(row + b"\n" for row in encoded)
        files["support.json"] = json.dumps({**rest, "digest": content.hexdigest()}).encode()

    return changed


def test_an_imported_task_has_the_bits_of_the_exported_one(start_service: StartService, store_url: str) -> None:
    here, there = start_service(), start_service(store=store_url)
    options: dict[str, Any] = {"steps": 3, "learning_rate": 0.5, "labels": LABELS, "seed": 7}
    adapt(here, **options)
    before = predict(here)
    data = export(here)
    answer = import_(there, data, "elsewhere")
    assert (answer["task"], answer["version"], answer["readapted"]) == ("elsewhere", 1, False)
    assert answer["labels"] == ["card_arrival", "extra_charge_on_statement", "getting_virtual_card", "refund"]
    assert predict(there, "elsewhere")["predictions"] == before["predictions"]
    record, origin = there.get("/v1/tasks/elsewhere").json(), here.get("/v1/tasks/bank").json()
    assert (record["source"], origin["source"]) == ("import", "adapt")
    same = ("asked", "n_support", "steps", "support_accuracy", "leave_one_out_accuracy", "support_kept", "checkpoint")
    assert {name: record[name] for name in same} == {name: origin[name] for name in same}
    both = [client.get(f"/v1/tasks/{task}/examples").json()["examples"] for client, task in
            ((here, "bank"), (there, "elsewhere"))]  # fmt: skip
    assert both[0] == both[1]
    # The life goes on as it would have: the same examples, options and descriptions
    more = {"examples": [{"text": "Give me my money back", "label": "refund"}]}
    for client, task in ((here, "bank"), (there, "elsewhere")):
        assert client.post(f"/v1/tasks/{task}/examples", json=more).status_code == 200
    assert predict(there, "elsewhere")["predictions"] == predict(here)["predictions"]
    # The exported task is as it was, and the same version gives the same bytes on every server
    assert export(here, version=1) == data


def test_a_file_says_what_it_is(service: httpx.Client) -> None:
    adapt(service, labels=LABELS, ttl_seconds=3600)
    response = service.get("/v1/tasks/bank/export")
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == 'attachment; filename="bank-1.handful.zip"'
    digest = base64.b64encode(hashlib.sha256(response.content).digest()).decode()
    assert response.headers["content-digest"] == f"sha-256=:{digest}:"
    assert export(service) == response.content, "the same bytes"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    loaded = service.get("/v1/checkpoint").json()
    assert (manifest["format"], manifest["format_version"]) == ("handful-task", 1)
    assert (manifest["task"], manifest["version"]) == ("bank", 1)
    assert manifest["checkpoint"] == {"name": loaded["name"], "fingerprint": loaded["fingerprint"]}
    assert manifest["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "manifest.json"
    }
    rows = [json.loads(line) for line in files["examples.jsonl"].splitlines()]
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == SUPPORT
    assert all(row["id"] for row in rows)
    assert json.loads(files["support.json"])["descriptions"] == LABELS
    assert safetensors.numpy.load(files["adapter.safetensors"])["head.weight"].shape[0] == 4
    assert b"default" not in b"".join(files.values()), "no tenant"
    adapter_id = store_of(service).current("default", "bank").adapter_id  # type: ignore[union-attr]
    assert adapter_id.encode() not in response.content


def test_a_version_is_exported_and_an_absent_one_is_not(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    first = predict(stored_service)["predictions"]
    adapt(stored_service, support=OTHER_SUPPORT)
    assert export(stored_service) == export(stored_service, version=2)
    import_(stored_service, export(stored_service, version=1))
    assert predict(stored_service) == {"task": "bank", "version": 3, "predictions": first, "truncated": 0}
    for path, code in (("bank/export?version=9", "version_not_found"), ("absent/export", "task_not_found")):
        response = stored_service.get(f"/v1/tasks/{path}")
        assert (response.status_code, response.json()["code"]) == (404, code)
    assert stored_service.get("/v1/tasks/bank/export?version=0").status_code == 422


def test_another_tenants_task_is_neither_exported_nor_overwritten(service: httpx.Client) -> None:
    adapt(service)
    data = export(service)
    ours, theirs = (bearer(make_key(service, tenant)) for tenant in ("ours", "theirs"))
    assert service.get("/v1/tasks/bank/export", headers=ours).status_code == 404
    assert service.get("/v1/tasks/bank/export").status_code == 401
    assert service.post("/v1/tasks/bank/import", content=data, headers=ZIP).status_code == 401
    assert service.post("/v1/tasks/bank/import", content=data, headers={**ZIP, **ours}).status_code == 200
    assert service.get("/v1/tasks/bank/export", headers=theirs).status_code == 404
    answer = service.post("/v1/tasks/bank/predict", json={"queries": TEXTS}, headers=ours).json()
    assert answer["version"] == 1


def test_a_task_without_support_set_moves_with_its_weights_alone(
    service: httpx.Client, start_service: StartService, other_checkpoint: Path, tmp_path: Path
) -> None:
    adapt(service, keep_support=False, labels=LABELS)
    before = predict(service)["predictions"]
    data = export(service)
    assert all(text.encode() not in data for text in [*TEXTS, *LABELS.values()])
    assert import_(service, data, "copy")["readapted"] is False
    assert predict(service, "copy")["predictions"] == before
    assert service.get("/v1/tasks/copy/examples").json()["code"] == "support_not_kept"
    other = start_service(checkpoint=str(other_checkpoint), store=f"sqlite:{tmp_path / 'other.db'}")
    for readapt in (False, True):
        assert "no examples" in refused(other, data, 409, "checkpoint_not_loaded", readapt=readapt)


def test_a_checkpoint_that_is_not_loaded_is_named_and_its_examples_are_adapted_on_again(
    service: httpx.Client, start_service: StartService, other_checkpoint: Path, tmp_path: Path
) -> None:
    adapt(service, steps=3, labels=LABELS)
    data = export(service)
    other = start_service(checkpoint=str(other_checkpoint), store=f"sqlite:{tmp_path / 'other.db'}")
    detail = refused(other, data, 409, "checkpoint_not_loaded")
    assert "'tiny'" in detail
    assert "readapt=true" in detail
    answer = import_(other, data, readapt=True)
    assert (answer["readapted"], answer["steps"], answer["n_support"]) == (True, 3, 6)
    assert other.get("/v1/tasks/bank").json()["source"] == "import"
    adapt(other, "fresh", steps=3, labels=LABELS)
    assert predict(other)["predictions"] == predict(other, "fresh")["predictions"]
    # Where the checkpoint is loaded, its own weights answer, whatever the request says
    assert import_(service, data, "copy", readapt=True)["readapted"] is False
    # A server that has lost the checkpoint still exports what it stores
    stale = start_service(checkpoint=str(other_checkpoint))
    again = export(stale)
    assert json.loads(unzipped(again)["manifest.json"])["checkpoint"]["name"] is None
    assert unzipped(again)["adapter.safetensors"] == unzipped(data)["adapter.safetensors"]


@pytest.mark.parametrize("learner", ["ridge", "prototypical_cosine", "matching", "memory"])
def test_every_learner_moves(shared_service: httpx.Client, learner: str) -> None:
    adapt(shared_service, "source", learner=learner)
    import_(shared_service, export(shared_service, "source"), "target")
    assert predict(shared_service, "target")["predictions"] == predict(shared_service, "source")["predictions"]


@pytest.mark.parametrize("kind", OF_KIND)
def test_every_kind_moves(shared_service: httpx.Client, kind: str) -> None:
    made = adapt(shared_service, "kinds", **OF_KIND[kind])
    moved = import_(shared_service, export(shared_service, "kinds"), "moved")
    names = ("kind", "labels", "thresholds", "thresholds_from", "leave_one_out")
    assert {name: moved.get(name) for name in names} == {name: made.get(name) for name in names}
    asked = {"queries": TEXTS}
    expected, found = (
        shared_service.post(f"/v1/tasks/{task}/predict", json=asked).json() for task in ("kinds", "moved")
    )
    assert found["predictions"] == expected["predictions"]
    assert shared_service.get("/v1/tasks/moved").json()["kind"] == kind


@pytest.mark.parametrize("kind", OF_KIND)
def test_a_file_of_a_kind_that_was_changed_is_refused(shared_service: httpx.Client, kind: str) -> None:
    adapt(shared_service, "kinds", **OF_KIND[kind])
    file = export(shared_service, "kinds")
    decisions = [{"thresholds": [0.5]}, {"thresholds": [2.0] * 3}, {"spread": 0.0}, {"half_width": -1.0}]
    changes = [
        *(edited("record.json", decision=decision) for decision in decisions),
        edited("record.json", kind="single_label"),
        edited("record.json", decision=None if kind != "regression" else {"ordered": True}),
    ]
    for change in changes:
        refused(shared_service, resealed(file, change))


def test_pairs_move(shared_service: httpx.Client) -> None:
    adapt(shared_service, "source", [{**example, "text_pair": f"{i} yes"} for i, example in enumerate(SUPPORT)])
    import_(shared_service, export(shared_service, "source"), "target")
    queries = [{"text": "a card", "text_pair": "is late"}]
    both = [predict(shared_service, task, queries)["predictions"] for task in ("source", "target")]
    assert both[0] == both[1]
    single = shared_service.post("/v1/tasks/target/predict", json={"queries": ["a card"]})
    assert single.json()["code"] == "text_pair_missing"


def test_erasing_on_the_importing_server_finds_the_example(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url)
    secret = "a text that nobody may find again"
    adapt(client, "origin", [*SUPPORT, {"text": secret, "label": "card_arrival", "id": "secret"}])
    data = export(client, "origin")
    lying = resealed(data, edited("record.json", support_digests=["0" * 32] * 7))
    client.delete("/v1/tasks/origin")
    for file in (data, lying):
        import_(client, file)
    assert client.delete("/v1/tasks/bank/examples/secret").json()["removed_versions"] == [1, 2]
    assert secret.encode() not in bytes_in(store_url)
    assert export(client) != data


def test_a_time_to_live_is_the_requests(service: httpx.Client) -> None:
    adapt(service, ttl_seconds=3600)
    data = export(service)
    import_(service, data, "copy")
    assert service.get("/v1/tasks/copy").json()["expires_at"] is None
    import_(service, data, "copy", ttl_seconds=600)
    assert service.get("/v1/tasks/copy").json()["expires_at"]
    bad = service.post("/v1/tasks/copy/import?ttl_seconds=0", content=data, headers=ZIP)
    assert bad.json()["errors"][0]["pointer"] == "query/ttl_seconds"


def test_a_repeated_import_counts_once(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    data, headers = export(stored_service), {**ZIP, "Idempotency-Key": "moving"}
    path = "/v1/tasks/copy/import"
    first, second = (stored_service.post(path, content=data, headers=headers) for _ in range(2))
    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    assert stored_service.get("/v1/tasks/copy").json()["version"] == 1
    for url, content in ((f"{path}?readapt=true", data), (path, data + b"x"), ("/v1/tasks/other/import", data)):
        response = stored_service.post(url, content=content, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


def test_type_and_size_are_checked_first(service: httpx.Client, start_service: StartService) -> None:
    adapt(service)
    data = export(service)
    path = "/v1/tasks/copy/import"
    for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=x", ""):
        response = service.post(path, content=data, headers={"Content-Type": content_type})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    small = start_service(max_body_bytes=1024)
    response = small.post(path, content=data, headers=ZIP)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "HANDFUL_MAX_BODY_BYTES" in response.json()["detail"]
    assert small.post(path, content=b"", headers=ZIP).status_code == 422
    kind = {"Content-Type": "Application/X-Zip-Compressed; charset=binary"}
    assert service.post(path, content=data, headers=kind).status_code == 200


def test_a_file_that_was_altered_is_refused(shared_service: httpx.Client) -> None:
    adapt(shared_service, "altered")
    data = export(shared_service, "altered")
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in unzipped(data).items():
            archive.writestr(name, content)
    files = unzipped(data)
    without = zipped({name: content for name, content in files.items() if name != "examples.jsonl"})
    swapped = zipped({**files, "examples.jsonl": files["examples.jsonl"].replace(b"waiting", b"walking")})
    for altered in (data[:-1], data + b"\0", repacked.getvalue(), without, swapped):
        assert "not as it was exported" in refused(shared_service, altered)
    for other in (b"", b"{}", b"PK", json.dumps(SUPPORT).encode(), b"\x1f\x8b\0\0", b"\0\0\0\0"):
        assert "no file that" in refused(shared_service, other)
    assert "has no manifest.json" in refused(shared_service, zipped({"a": b""}))


def test_no_flipped_bit_gets_in(shared_service: httpx.Client) -> None:
    adapt(shared_service, "flipped")
    data = export(shared_service, "flipped")

    @settings(max_examples=20, deadline=None)
    @given(at=st.integers(0, len(data) - 1), bit=st.integers(0, 7))
    def flip(at: int, bit: int) -> None:
        refused(shared_service, bytes([*data[:at], data[at] ^ 1 << bit, *data[at + 1 :]]))

    flip()


HOSTILE: Mapping[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "format": (edited("manifest.json", format="other"), "no exported task"),
    "later layout": (edited("manifest.json", format_version=2), "format version 2"),
    "later field": (edited("record.json", shoe_size=43), "does not know (shoe_size)"),
    "huge version": (edited("manifest.json", version=2**70), "malformed"),
    "another file": (lambda files: files.update({"more": b""}), "other files"),
    "no examples": (lambda files: files.pop("support.json"), "other files"),
    "no JSON": (lambda files: files.update({"record.json": b"[" * 5000}), "no JSON"),
    "infinite": (lambda files: files.update({"record.json": b'{"created_at": 1e999}'}), "no JSON"),
    "missing": (edited("record.json", n_support=...), "malformed: n_support"),
    "another checkpoint": (edited("record.json", checkpoint="0" * 64), "not as it was exported"),
    "steps": (edited("record.json", steps_asked=-1), "out of range: steps"),
    "rate": (edited("record.json", learning_rate=1e9), "out of range: learning_rate"),
    "accuracy": (edited("record.json", support_accuracy=7.0), "out of range"),
    "count": (edited("record.json", n_support=-1), "out of range"),
    "labels": (edited("record.json", labels=["a", "b", "c"]), "not those of its record"),
    "label form": (edited("record.json", labels=["a ", "b", "c"]), "not those of a stored task"),
    "header": (edited("adapter.json", learner="nobody"), "cannot be used"),
    "header field": (edited("adapter.json", tenants="x"), "cannot be used"),
    "another learner": (edited("adapter.json", learner="prototypical"), "not those of its record"),
    "shape": (with_weights(head_weight=np.zeros((3, 5), np.float32)), "shapes"),
    "type": (with_weights(head_bias=np.zeros(3)), "float32"),
    "not finite": (with_weights(head_bias=np.full(3, np.inf, np.float32)), "finite"),
    "more weights": (with_weights(extra=np.zeros(3, np.float32)), "shapes"),
    "no tensors": (lambda files: files.update({"adapter.safetensors": b"\xff" * 20}), "malformed"),
    "row": (lambda files: files.update({"examples.jsonl": b"{}\n" * 6}), "digest does not match"),
    "row field": (with_examples(lambda rows: rows[0].update(shoe=43)), "shoe"),
    "fewer rows": (with_examples(lambda rows: rows.pop()), "not those of its record"),
    "id": (with_examples(lambda rows: rows[0].update(id="../../x")), "cannot name an example"),
    "same id": (with_examples(lambda rows: rows[0].update(id=rows[1]["id"])), "no support set"),
    "mixed": (with_examples(lambda rows: rows[0].update(text_pair="x")), "not those of its record"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_with_right_digests_and_wrong_content_is_refused(shared_service: httpx.Client, name: str) -> None:
    adapt(shared_service, "hostile")
    change, reason = HOSTILE[name]
    assert reason in refused(shared_service, resealed(export(shared_service, "hostile"), change))


def test_limits_hold_for_files_too(service: httpx.Client, start_service: StartService, tmp_path: Path) -> None:
    adapt(service, steps=9, labels={"refund": "asks for " + "money " * 20})
    data = export(service)
    for limit, code in (
        ({"max_steps": 5}, "too_many_steps"),
        ({"max_classes": 3}, "too_many_classes"),
        ({"max_support_examples": 5}, "too_many_examples"),
        ({"max_label_chars": 5}, "label_too_long"),
        ({"max_description_chars": 50}, "description_too_long"),
        ({"max_text_chars": 40}, "invalid_task_file"),
    ):
        client = start_service(store=f"sqlite:{tmp_path / 'limited.db'}", **limit)
        assert f"HANDFUL_{next(iter(limit)).upper()}" in refused(client, data, 422, code)
    empty = resealed(data, with_examples(lambda rows: rows[0].update(text=" ")))
    assert "#/examples/0/text" in refused(service, empty, 422, "empty_text")
