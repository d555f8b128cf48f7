"""Names in Redis.

Keys, all of a tenant's with one hash tag, so that they share a slot of a cluster:

* ``handful:{TENANT}:task:TASK``, a hash: ``current``, ``adapter_id``, ``created_at`` and per version N ``id:N``,
  ``record:N``, ``adapter:N``, ``support:N``, ``examples:N``; of a removed one ``removed:N``; and ``example:DIGEST``, a
  row that versions share. One key a task makes commit, expiry and deletion atomic. ``examples:N`` has the digests of a
  version's rows, and ``support:N`` the rest of its support set, or, without ``examples:N``, all of it as releases
  before 0.3 stored it.
* ``handful:{TENANT}:tasks``, a sorted set of task names, for listing.
* ``handful:{TENANT}:once:KEY``, the answer under an idempotency key; ``handful:{TENANT}:answers:TASK``, the set of a
  task's, which go with it; ``handful:{TENANT}:deleted:TOKEN``, for a minute, a deletion that was carried out.
* ``handful:keys``, a hash: SHA-256 of an API key -> its record; ``{handful:keys}:needed``, in the same slot, where
  callers need a key although there may be none left.
* ``handful:store``, the store's marker.
"""

import re
import uuid

from model_store.records import NAME_PATTERN

TASK_KEY = re.compile(rf"handful:\{{({NAME_PATTERN})\}}:task:({NAME_PATTERN})")
"""A task's key, with tenant and task."""


def task_key(tenant: str, task: str) -> str:
    """The hash of a task; ``*`` as a name makes a pattern."""
    return f"handful:{{{tenant}}}:task:{task}"


def tasks_key(tenant: str) -> str:
    """The names of a tenant's tasks."""
    return f"handful:{{{tenant}}}:tasks"


def answers_key(tenant: str, task: str) -> str:
    """The names of a task's answers."""
    return f"handful:{{{tenant}}}:answers:{task}"


def token_key(tenant: str) -> str:
    """A new name for a deletion."""
    return f"handful:{{{tenant}}}:deleted:{uuid.uuid4().hex}"


def once_key(tenant: str, key: str) -> str:
    """The answer under an idempotency key."""
    return f"handful:{{{tenant}}}:once:{key}"
