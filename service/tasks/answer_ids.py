"""Ids of predictions. An id holds its text, sealed, so that feedback can name an answer and no query is kept."""

import base64
import binascii
import json
import secrets
import struct
import time
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metalearn.types import TextInput
from service.tasks.errors import Fault, InvalidContent

_PREFIX = "a1"
"""The form of an id; a later form would have another prefix."""
_NONCE_BYTES = 12
_HEAD = struct.Struct(">I")
_AHEAD_S = 300
"""Seconds by which the clock of the server that made an id may be ahead."""


class AnswerIds:
    """Seals texts into ids and opens them again. AES-GCM; an id is bound to its tenant and its task."""

    def __init__(self, secret: str, *, keep_s: int) -> None:
        """Prepares the key.

        Args:
            secret: The servers' common secret; empty for one of this object alone.
            keep_s: Seconds for which an id can be opened.
        """
        drawn = secret.encode() or secrets.token_bytes(32)
        key = HKDF(hashes.SHA256(), 32, salt=None, info=b"handful answer ids").derive(drawn)
        self._cipher = AESGCM(key)
        self._keep_s = keep_s

    def seal(self, tenant: str, task: str, text: TextInput) -> str:
        """The id of an answer to a text; another one each time."""
        content = json.dumps([text.text, text.text_pair], ensure_ascii=False).encode("utf-8", "surrogatepass")
        head, nonce = _HEAD.pack(int(time.time())), secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, head + zlib.compress(content), _bound_to(tenant, task))
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, tenant: str, task: str, given: str) -> TextInput:
        """The text of an id.

        Raises:
            InvalidContent: No server with this secret has made it for this task, or it is too old.
        """
        try:
            if not given.startswith(_PREFIX):
                raise ValueError(given)
            encoded = given[len(_PREFIX) :]
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            opened = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound_to(tenant, task))
        except (ValueError, binascii.Error, InvalidTag):
            raise _refused(
                "no answer of this task has this id, or a server with another secret gave it "
                "(HANDFUL_ANSWER_ID_SECRET; without one, ids end with the server): send the text itself"
            ) from None
        age_s = time.time() - _HEAD.unpack_from(opened)[0]
        if not -_AHEAD_S <= age_s <= self._keep_s:
            raise _refused(
                f"the id is older than {self._keep_s} seconds (HANDFUL_ANSWER_ID_SECONDS): send the text itself"
            )
        content = zlib.decompress(opened[_HEAD.size :]).decode("utf-8", "surrogatepass")
        return TextInput(*json.loads(content))


def _bound_to(tenant: str, task: str) -> bytes:
    return f"{tenant}\0{task}".encode()  # a zero is in no name


def _refused(detail: str) -> InvalidContent:
    return InvalidContent("unknown_answer_id", [Fault(("id",), detail)])
