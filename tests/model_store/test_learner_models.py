"""The engine's models and its forward pass: the shapes that adapters must have, and rows that go each its own way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import torch

from metalearn.body import MlpBody, TextBody
from metalearn.encoder.batches import padded_width
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.pooling import PaddedBatch
from metalearn.encoder.stages import encoder_stages
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import UnknownLearner
from metalearn.inner_loop import collect
from metalearn.learners import LEARNERS, make_learner
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import PlacementName
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.support_plan import plan_support
from metalearn.tokens.words import joined
from metalearn.types import Adapter, Example, SupportSet, TextInput
from model_store.checkpoint import UNTRAINED, Checkpoint, write_checkpoint
from model_store.codec import AdapterKey, decode_adapter, encode_adapter
from model_store.errors import AdapterCorrupt
from model_store.learner_models import LoadedModel, Models, modulated_norms
from service.engine.forward import class_probabilities, classified
from service.engine.runtime import OnnxFeatures, start_runtime
from service.settings import RuntimeName
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.metalearn.conftest import as_prepared
from tests.metalearn.test_placement import moved
from tests.pairs import pairs
from tests.service.conftest import TEXTS, adapt, predict

CPU = torch.device("cpu")
PLACEMENTS: tuple[PlacementName, ...] = get_args(PlacementName)


class Tuned(NamedTuple):
    """A checkpoint folder, and the model with its slow weights as it was trained."""

    folder: Path
    trained: MetaModel
    slow: dict[str, torch.Tensor]


def models_of(make_checkpoint: MakeCheckpoint, placement: PlacementName) -> Models:
    """Models of a checkpoint with one fast layer, where the placement has any."""
    spec = ModelSpec("protomaml", placement, 0 if placement == "head" else 1)
    return Models(Checkpoint(make_checkpoint(spec), CPU))


@pytest.fixture
def tuned(tiny_encoder: Path, tmp_path: Path) -> Tuned:
    """A tuned layer: no slow weight is where it began."""
    spec, how = ModelSpec(tuned_layers=1), encoder_stages(max_tokens=64)
    trained = make_text_model(spec, build_encoder(tiny_encoder, how, CPU))
    slow = moved(trained.initial_slow_weights(steps=UNTRAINED.steps), by=0.1)
    write_checkpoint(
        tmp_path / "tuned",
        name="tuned",
        spec=spec,
        hyperparameters=UNTRAINED,
        encoder_source=str(tiny_encoder),
        encoder_licence="none",
        card="# tuned\n",
        slow_weights=slow,
        stages=how,
    )
    return Tuned(tmp_path / "tuned", trained, slow)


def random_adapter(models: Models, learner: str, n_classes: int, seed: int, n_texts: int | None = None) -> Adapter:
    """An adapter with random weights, none of which is where it started."""
    loaded = models.of(learner)
    draw = torch.Generator().manual_seed(seed)
    n_texts = n_texts or n_classes + seed % 3
    dim = loaded.body.dim
    features = torch.nn.functional.normalize(torch.randn(n_texts, dim, generator=draw), dim=1)
    on_features = MetaModel(MlpBody((dim,)), loaded.model.placement, loaded.model.learner)
    support = PreparedSet(features, torch.arange(n_texts) % n_classes, torch.ones(n_texts), n_classes)
    fast_weights = on_features.start(loaded.slow_weights, support).fast_weights
    moved = {name: w + 0.05 * torch.rand(w.shape, generator=draw) for name, w in fast_weights.items()}
    labels = tuple(f"{i:03}" for i in range(n_classes))
    return Adapter(moved, labels, models.checkpoint.fingerprint, learner)


# ---- models --------------------------------------------------------------------------------------------------------


def test_models_are_made_once_and_are_the_same_for_every_process(make_checkpoint: MakeCheckpoint) -> None:
    one, other = (models_of(make_checkpoint, "modulations") for _ in range(2))
    assert one.of() is one.of("protomaml")
    assert one.of().is_deep
    for learner in LEARNERS:
        loaded = one.of(learner)
        assert loaded is one.of(learner)
        assert loaded.model.learner.name == learner
        assert loaded.is_deep is (learner == "protomaml")
        for name, weight in other.of(learner).slow_weights.items():
            assert torch.equal(weight, loaded.slow_weights[name])
    with pytest.raises(UnknownLearner):
        one.of("nope")


SIZES = [(2, 2), (2, 3), (5, 5), (3, 40), (7, 300), (150, 150), (150, 400)]


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_the_shapes_of_every_learner_are_known_for_any_number_of_classes_and_texts(
    loaded_checkpoint: Checkpoint, learner: str
) -> None:
    # A learner that fails here would have its adapters called damaged after a restart
    models = Models(loaded_checkpoint)
    for n_classes, n_texts in SIZES:
        adapter = random_adapter(models, learner, n_classes, 0, n_texts)
        shapes = {name: tuple(weight.shape) for name, weight in adapter.fast_weights.items()}
        assert models.shapes(learner).fit(shapes, n_classes), (n_classes, n_texts, shapes)
        assert not models.shapes(learner).fit(shapes, n_classes + 1)
        assert all(weight.dtype == torch.float32 for weight in adapter.fast_weights.values())


def _as_stored(adapter: Adapter, models: Models) -> Adapter:
    key = AdapterKey("a", "b", 1, "c")
    checkpoint = models.checkpoint.fingerprint
    return decode_adapter(encode_adapter(adapter, key), key, shapes={checkpoint: models.shapes})


@pytest.mark.parametrize(
    ("learner", "placement"),
    [(n, p) for n in sorted(LEARNERS) for p in PLACEMENTS if p == "head" or make_learner(n).descends],
)
def test_a_stored_adapter_with_any_weight_misshapen_is_corrupt(
    make_checkpoint: MakeCheckpoint, learner: str, placement: PlacementName
) -> None:
    models = Models(Checkpoint(make_checkpoint(ModelSpec(learner, placement, int(placement != "head"))), CPU))
    adapter = random_adapter(models, learner, 3, 1)
    assert _as_stored(adapter, models).learner == learner
    spoiled = [{**adapter.fast_weights, "more": torch.ones(3)}]
    for name, weight in adapter.fast_weights.items():
        spoiled.append({n: w for n, w in adapter.fast_weights.items() if n != name})
        spoiled.append({**adapter.fast_weights, name: weight.unsqueeze(0)})
        for axis, length in enumerate(weight.shape):
            changed = (weight.narrow(axis, 0, length - 1), torch.cat([weight, weight.narrow(axis, 0, 1)], dim=axis))
            spoiled += [{**adapter.fast_weights, name: each} for each in changed]
    for weights in spoiled:
        with pytest.raises(AdapterCorrupt):
            _as_stored(Adapter(weights, adapter.labels, adapter.checkpoint, learner), models)
    for labels in (adapter.labels[:2], (*adapter.labels, "one more")):
        with pytest.raises(AdapterCorrupt):
            _as_stored(Adapter(adapter.fast_weights, labels, adapter.checkpoint, learner), models)


def test_an_adapter_of_a_learner_that_is_gone_is_corrupt(loaded_checkpoint: Checkpoint) -> None:
    models = Models(loaded_checkpoint)
    adapter = random_adapter(models, "protomaml", 3, 1)
    with pytest.raises(AdapterCorrupt, match="no learner 'gone'"):
        _as_stored(Adapter(adapter.fast_weights, adapter.labels, adapter.checkpoint, "gone"), models)


def test_hidden_states_are_not_kept_where_nothing_is_left_to_run(make_checkpoint: MakeCheckpoint) -> None:
    texts = [TextInput(example["text"]) for example in SUPPORT]
    for placement in PLACEMENTS:
        models = models_of(make_checkpoint, placement)
        tokenized = models.checkpoint.encoder.tokenize(texts)
        width = padded_width(max(len(text.ids) for text in tokenized))
        batch = models.of().body.begin(tokenized)
        assert batch.hidden.shape == (len(texts), 1 if placement == "head" else width, 32)
        # Either way the features are the encoder's own, as long as no fast weight has moved
        inputs = models.of().body.joined([range(len(texts))], [batch])
        features = models.of().body.features({}, inputs)
        torch.testing.assert_close(features, models.checkpoint.encoder.encode_batch(tokenized), atol=1e-6, rtol=0)


# ---- the forward pass ------------------------------------------------------------------------------------------------


def computed_by(models: Models, runtime: RuntimeName) -> Models:
    """The models of a checkpoint, computed by a runtime."""
    checkpoint = models.checkpoint
    return Models(checkpoint, start_runtime(checkpoint.encoder, runtime, norms=modulated_norms(checkpoint)))


def _by_definition(loaded: LoadedModel, adapter: Adapter, text: TokenizedText) -> list[float]:
    inputs = loaded.body.prepare([text])
    with torch.no_grad():
        logits = loaded.model.outputs(loaded.slow_weights, adapter.fast_weights, inputs)
    answer: list[float] = logits.softmax(dim=1)[0].tolist()
    return answer


@pytest.mark.parametrize(
    ("placement", "learners", "runtime"),
    pairs(
        PLACEMENTS,
        [["protomaml"], ["protomaml", *sorted(LEARNERS)], ["matching"], ["maml", "ridge"]],
        ["torch", "onnxruntime"],
    ),
)
def test_rows_of_many_tasks_are_answered_as_each_alone(
    make_checkpoint: MakeCheckpoint, placement: PlacementName, learners: Sequence[str], runtime: RuntimeName
) -> None:
    models = models_of(make_checkpoint, placement)
    models = computed_by(models, runtime)
    adapters = [random_adapter(models, learners[i % len(learners)], 2 + i % 5, i) for i in range(2 * len(learners))]
    words = ["why", "was", "my", "new", "virtual", "card", "charged", "an", "extra", "fee"]
    texts = models.checkpoint.encoder.tokenize([TextInput(" ".join(words[: 1 + i % 10])) for i in range(37)])
    draw = torch.Generator().manual_seed(3)
    rows = [adapters[int(i)] for i in torch.randint(len(adapters), (37,), generator=draw)]
    together = class_probabilities(models, texts, rows, 512)
    for text, adapter, found in zip(texts, rows, together, strict=True):
        expected = _by_definition(models.of(adapter.learner), adapter, text)
        assert len(found) == len(adapter.labels)
        assert found == pytest.approx(expected, abs=1e-5)
    # One text, and texts of one length, which have no padding
    assert class_probabilities(models, texts[:1], rows[:1], 512)[0] == pytest.approx(together[0], abs=1e-5)
    same = [texts[3]] * 4
    for found, adapter in zip(class_probabilities(models, same, rows[:4], 512), rows, strict=False):
        assert found == pytest.approx(_by_definition(models.of(adapter.learner), adapter, texts[3]), abs=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_tagged_words_and_whole_texts_share_a_batch_and_no_bit_moves(
    make_checkpoint: MakeCheckpoint, runtime: RuntimeName
) -> None:
    models = computed_by(models_of(make_checkpoint, "head"), runtime)
    learners = ["softmax_regression", "protomaml"]
    adapters = [random_adapter(models, learners[i % 2], 2 + i % 5, i) for i in range(6)]
    words = ["why", "was", "my", "new", "virtual", "card", "charged", "an", "extra", "fee"]
    rows = [adapters[i % 6] for i in range(20)]
    inputs = []
    for i, adapter in enumerate(rows):
        text, places = joined(words[: 1 + i % 10])
        inputs.append(TextInput(text, None, places if adapter.learner == "softmax_regression" else None))
    texts = models.checkpoint.encoder.tokenize(inputs)
    together, features = classified(models, texts, rows, 512)
    for text, adapter, found, own in zip(texts, rows, together, features, strict=True):
        assert found == class_probabilities(models, [text], [adapter], 512)[0]
        assert len(found) == len(adapter.labels) * (1 if text.words is None else len(text.words))
        assert bool(own.any()) is (text.words is None)


def test_rows_of_many_tasks_are_answered_on_tuned_layers_as_each_alone(tuned: Tuned) -> None:
    models = Models(Checkpoint(tuned.folder, CPU))
    assert not models.of().is_deep
    adapters = [random_adapter(models, learner, 2 + i % 5, i) for i, learner in enumerate(sorted(LEARNERS))]
    words = ["why", "was", "my", "new", "virtual", "card", "charged", "an", "extra", "fee"]
    texts = models.checkpoint.encoder.tokenize([TextInput(" ".join(words[: 1 + i % 10])) for i in range(37)])
    rows = [adapters[(5 * i) % len(adapters)] for i in range(37)]
    together = class_probabilities(models, texts, rows, 512)
    assert isinstance(tuned.trained.body, TextBody)
    features = tuned.trained.features(tuned.slow, {}, tuned.trained.body.prepare(texts))
    for i, (text, adapter, found) in enumerate(zip(texts, rows, together, strict=True)):
        loaded = models.of(adapter.learner)
        assert found == pytest.approx(_by_definition(loaded, adapter, text), abs=1e-5)
        # The features are those of the training, for every learner
        with torch.no_grad():
            logits = loaded.model.learner.logits(adapter.fast_weights, features[i : i + 1])
        assert found == pytest.approx(logits.softmax(dim=1)[0].tolist(), abs=1e-4)


@pytest.mark.parametrize("use_label_text", [False, True])
def test_a_service_answers_as_the_model_that_was_trained(
    start_service: StartService, tuned: Tuned, use_label_text: bool
) -> None:
    client = start_service(checkpoint=str(tuned.folder))
    made = adapt(client, steps=5, use_label_text=use_label_text)
    # The same support set under the model as it was in training
    model, slow = tuned.trained, tuned.slow
    assert isinstance(model.body, TextBody)
    support = SupportSet(tuple(Example(TextInput(e["text"]), e["label"]) for e in SUPPORT))
    plan = plan_support(support, use_label_text=use_label_text)
    tokenize = model.body.encoder.tokenize
    prepared = as_prepared(plan, model.body)
    result = collect(model.adapt(slow, prepared, model.start(slow, prepared), steps=5))
    assert made["losses"] == pytest.approx(result.losses.tolist(), abs=1e-4)
    queries = model.body.prepare(tokenize([TextInput(text) for text in TEXTS]))
    with torch.no_grad():
        fast = model.answering(slow, result.fast_weights, prepared)
        expected = model.outputs(slow, fast, queries).softmax(dim=1).tolist()
    for prediction, row in zip(predict(client)["predictions"], expected, strict=True):
        # Served heads are numbers of half precision
        assert [prediction["scores"][label] for label in support.labels] == pytest.approx(row, abs=5e-3)
    # Another process reads it from the store, and answers alike
    again = predict(start_service(checkpoint=str(tuned.folder)))["predictions"]
    for one, other in zip(again, predict(client)["predictions"], strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_the_frozen_layers_run_once_for_all_tasks(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = models_of(make_checkpoint, "full")
    encoder = models.checkpoint.encoder
    adapters = [random_adapter(models, learner, 3, i) for i, learner in enumerate(["protomaml"] * 3 + ["matching"] * 3)]
    texts = encoder.tokenize([TextInput(f"card {i}") for i in range(6)])
    calls = []
    real = encoder.begin_batch
    monkeypatch.setattr(Encoder, "begin_batch", lambda _, *given: calls.append(given) or real(*given))
    class_probabilities(models, texts, adapters, 512)
    assert [(len(rows), layers) for rows, layers in calls] == [(6, 1)]


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_modulated_tasks_go_through_all_layers_together(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, runtime: RuntimeName
) -> None:
    models = models_of(make_checkpoint, "modulations")
    encoder = models.checkpoint.encoder
    models = computed_by(models, runtime)
    adapters = [random_adapter(models, learner, 3, i) for i, learner in enumerate(["protomaml"] * 3 + ["matching"] * 3)]
    texts = encoder.tokenize([TextInput(f"card {i}") for i in range(6)])
    rows: list[int] = []
    owner, name = (OnnxFeatures, "__call__") if runtime == "onnxruntime" else (type(encoder.transformer), "run_layers")
    real = getattr(owner, name)

    def counted(self: object, texts: Any, *given: Any, **named: Any) -> Any:
        rows.append(len(texts))
        return real(self, texts, *given, **named)

    monkeypatch.setattr(owner, name, counted)
    class_probabilities(models, texts, adapters, 512)
    assert rows == ([6] if runtime == "onnxruntime" else [6, 6])  # torch: no layer to begin with, then all


def test_no_graph_hangs_on_an_answer(make_checkpoint: MakeCheckpoint) -> None:
    models = models_of(make_checkpoint, "low_rank")
    assert not HeadOnly().layers
    adapter = random_adapter(models, "protomaml", 2, 0)
    assert not any(weight.requires_grad for weight in adapter.fast_weights.values())
    texts = models.checkpoint.encoder.tokenize([TextInput("card")])
    with torch.enable_grad():
        assert isinstance(class_probabilities(models, texts, [adapter], 512)[0][0], float)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_texts_of_all_lengths_are_answered_in_batches_of_about_one(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, placement: PlacementName
) -> None:
    models = models_of(make_checkpoint, placement)
    encoder = models.checkpoint.encoder
    lengths = [1, 40, 2, 35, 1, 38, 3, 2, 37, 1]
    texts = encoder.tokenize([TextInput("card " * n) for n in lengths])
    adapters = [random_adapter(models, "protomaml", 3, i % 2) for i in range(len(texts))]
    shapes = []
    real = encoder.padded

    def noted(_: Encoder, texts: list[TokenizedText]) -> PaddedBatch:
        shapes.append((len(texts), max(len(text.ids) for text in texts), sum(len(text.ids) for text in texts)))
        return real(texts)

    monkeypatch.setattr(Encoder, "padded", noted)
    together = class_probabilities(models, texts, adapters, 100)
    assert sum(rows for rows, _, _ in shapes) == len(texts)
    assert all(rows == 1 or rows * width <= 100 for rows, width, _ in shapes)
    assert sum(rows * width for rows, width, _ in shapes) < 1.15 * sum(tokens for _, _, tokens in shapes)
    for text, adapter, found in zip(texts, adapters, together, strict=True):
        assert class_probabilities(models, [text], [adapter], 100)[0] == pytest.approx(found, abs=1e-5)
