"""The settings: the one reader of the environment."""

import difflib
import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from handful import environment
from model_store import DEFAULT_CHECKPOINT
from model_store.sqlite_path import SCHEME, sqlite_path

PREFIX = "HANDFUL_"


class SettingsInvalid(Exception):
    """A setting is unknown or not acceptable; the message names it and the remedy."""


RuntimeName = Literal["auto", "torch", "onnxruntime"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]


class Settings(BaseSettings):
    """The settings of a server. They are built once at the start, handed down, and never changed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    checkpoint: Annotated[tuple[str, ...], NoDecode] = Field(
        (DEFAULT_CHECKPOINT,),
        min_length=1,
        description="Checkpoint folder, or the name of a shipped one. Given several times (in the variable with "
        "commas between), all are loaded, and the first is the default.",
    )
    store: SecretStr = Field(
        SecretStr("sqlite:handful.db"),
        description="sqlite:PATH, redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix://PATH. A file is made where "
        "there is none, a folder never.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, cuda:N or mps.")
    runtime: RuntimeName = Field(
        "auto",
        description="Runtime that computes features: torch, onnxruntime, or auto, which takes onnxruntime on a CPU.",
    )
    precision: Precision = Field(
        "auto",
        description="Number format: float32, bfloat16 (by torch) or int8 (by ONNX Runtime); auto takes int8 on "
        "CPUs and bfloat16 on CUDA.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads to compute with; 0 takes all that the machine grants."
    )
    root_path: str = Field("", description="Path under which a proxy shows the server, like /handful.")
    cors_origins: str = Field(
        "", description="Origins whose pages may call the server from a browser, with commas between, or *."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Processes that serve, each with the checkpoint and a part of the threads."
    )
    allow_open: bool = Field(
        False, description="Without any API key, answer on addresses beyond loopback too, for the tenant 'default'."
    )
    doors: Literal["all", "none"] = Field(
        "all", description="Serve the shapes of other APIs beside our own routes: all or none (docs/doors.md)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Largest request body.")
    max_support_examples: int = Field(7500, ge=2, description="Most examples in one support set.")
    max_classes: int = Field(150, ge=2, description="Most classes of one task.")
    max_queries: int = Field(1000, ge=1, description="Most queries in one request.")
    max_text_chars: int = Field(
        8000, ge=1, description="Longest text that is kept whole; a longer text loses its middle."
    )
    max_label_chars: int = Field(256, ge=1, description="Longest label.")
    max_description_chars: int = Field(1000, ge=1, description="Longest description of a label.")
    max_steps: int = Field(200, ge=0, description="Most inner steps that a request may ask for.")
    max_deep_tokens: int = Field(
        16_384,
        ge=1,
        description="Most tokens of a support set where fast weights live below the head, too, or words are tagged.",
    )
    max_kept_texts: int = Field(
        2000,
        ge=2,
        description="Most texts of a support set for learners that keep a row of each text, such as matching.",
    )

    max_inflight_requests: int = Field(1000, ge=1, description="Requests served at once; one more is refused.")
    max_queue_tokens: int = Field(131_072, ge=1, description="Tokens that may wait; further work is refused.")
    max_batch_tokens: int = Field(0, ge=0, description="Tokens of one forward pass; 0 takes the device's default.")
    cache_max_bytes: int = Field(256 * 2**20, ge=0, description="Memory for adapters in use and recently used.")
    feature_cache_max_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Memory for features of support texts, so that they are encoded once, shared equally by the loaded "
        "checkpoints; 0 keeps none.",
    )
    cache_max_adapters: int = Field(100_000, ge=1, description="Most adapters in that memory.")

    store_timeout_s: float = Field(0.5, gt=0, le=60, description="Seconds that Redis may take for a reply.")
    max_staleness_ms: int = Field(
        0,
        ge=0,
        le=60_000,
        description="Milliseconds for which predictions may use a version that another server has replaced or deleted; "
        "0 asks the store each time.",
    )
    auth_cache_s: float = Field(5.0, ge=0, description="Seconds for which a key that was removed may still work.")
    stale_if_error_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="While the store is away, predictions are answered from memory for this many seconds after it last "
        "confirmed the task's version and the key; 0 for never.",
    )
    store_id: str = Field(
        "",
        pattern="^([0-9a-f]{32})?$",
        description="The id of the only store to use; `handful store show` prints it. Any other store is refused.",
    )
    keep_versions: int = Field(
        0,
        ge=0,
        description="Versions of a task that are kept, the newest ones; each commit removes older ones. 0: all.",
    )
    keep_versions_seconds: float = Field(
        0,
        ge=0,
        description="Seconds for which a version is kept after a newer one has replaced it; a later commit to the task "
        "removes it. 0 for ever.",
    )
    readapt_on_first_use: bool = Field(
        True,
        description="Adapt a task whose checkpoint is not loaded again at its first prediction, on its stored support "
        "set, from the default checkpoint.",
    )
    readapt_tasks_per_second: float = Field(
        0,
        ge=0,
        le=1000,
        description="Tasks a second that are adapted again in the background, so that none waits for its first "
        "prediction; 0 for none.",
    )
    readapt_to_default: bool = Field(
        False,
        description="In the background, move tasks of other loaded checkpoints to the default one, too, unless they "
        "were asked for with another one.",
    )
    readapt_max_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest fall in leave-one-out accuracy with which a task is adapted again without being asked.",
    )
    readapt_max_disagreement: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of a task's examples that the former and the new checkpoint classify otherwise, "
        "each example left out, with which it is adapted again without being asked.",
    )
    feedback_per_label: int = Field(
        50,
        ge=1,
        description="Examples of feedback of a label that a task is adapted on; a further one outweighs the oldest.",
    )
    feedback_tolerance: float = Field(
        0.02,
        ge=0,
        le=1,
        description="By how much the accuracy on the other examples may fall before a correction has to wait.",
    )
    answer_id_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret that seals the ids of answers, the same on all servers; without one, ids end with the "
        "server that gave them.",
    )
    answer_id_seconds: int = Field(
        604_800, ge=1, description="Seconds for which feedback can name an answer by its id."
    )
    drift_tasks: int = Field(
        1000,
        ge=0,
        description="Tasks whose recent queries are counted in memory, to report drift; 0 counts none.",
    )
    drain_delay_s: float = Field(
        2.0, ge=0, description="Seconds after SIGTERM for which the server serves on while unready."
    )
    drain_timeout_s: float = Field(30.0, gt=0, description="Seconds that requests may then take to finish.")

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _split_checkpoints(cls, given: object) -> object:
        """Splits the variable's value at commas; a flag's value is taken as it is."""
        return [part.strip() for part in given.split(",")] if isinstance(given, str) else given

    @field_validator("store")
    @classmethod
    def _strip_store(cls, store: SecretStr) -> SecretStr:
        """Strips white space, since the line end of an environment file would be a part of the path otherwise."""
        return SecretStr(store.get_secret_value().strip())

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        url = self.store.get_secret_value()
        if not url.startswith((SCHEME, "redis://", "rediss://", "unix://")):
            raise ValueError("store must start with sqlite:, redis://, rediss:// or unix://")
        if url.startswith(SCHEME):
            try:
                sqlite_path(url)
            except ValueError as error:
                raise ValueError(f"store: {error}") from None
        return self

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
            raise ValueError("root_path is a path like /handful: a slash, then letters, digits and . _ ~ -")
        if (path + "/").startswith("/v1/"):
            raise ValueError("root_path must not start with /v1, where the routes are")
        return path

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str) -> str:
        for origin in origins.split(",") if origins.strip() else ():
            if not re.fullmatch(
                r"\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin.strip()
            ):
                raise ValueError(
                    f"cors_origins has {origin.strip()!r}: an origin is SCHEME://HOST or SCHEME://HOST:PORT, "
                    "without a path, as in https://app.example.com"
                )
        return origins

    @property
    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_origins``."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def sqlite_path(self) -> Path | None:
        """The embedded store's file; None where the store is another one."""
        url = self.store.get_secret_value()
        return sqlite_path(url) if url.startswith(SCHEME) else None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def load_settings(**overrides: object) -> Settings:
    """Reads the settings from the environment; ``overrides`` that are not None take precedence.

    Raises:
        SettingsInvalid: A ``HANDFUL_`` variable is unknown, or a value is not acceptable.
    """
    known = {name.upper() for name in Settings.model_fields}
    known |= {variable.removeprefix(PREFIX) for variable in environment.VARIABLES}
    for name in sorted(os.environ):
        setting = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "see `handful serve --help`"
            raise SettingsInvalid(
                f"the environment variable {name} is not a setting: {hint} "
                "(Kubernetes makes such variables for a Service called handful: set enableServiceLinks: false)"
            )
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SettingsInvalid("; ".join(lines)) from None


def granted_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of CPU threads for this process: its affinity, or its container's quota if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no quota
        return cores


def prepare_threads(settings: Settings) -> None:
    """Bounds the threads of the numeric libraries; they read these variables once, when torch is first imported."""
    count = str(settings.threads or granted_threads())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = count
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
