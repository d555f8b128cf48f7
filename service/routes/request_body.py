"""The bytes of a request's body: bounded, decoded, UTF-8."""

import functools
import zlib
from email.message import Message

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import ApiError, ClientGone, FieldError, invalid_content

_UTF8_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_NAMES = {"utf-8", "utf8", "us-ascii", "ascii"}
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""The ``wbits`` of zlib for each content coding."""
_ACCEPTED = "gzip, deflate"


def check_media_type(content_type: str) -> None:
    """Refuses a content type other than JSON in UTF-8.

    Raises:
        ApiError: 415, the content type is another one.
    """
    detail = _fault_of(content_type)
    if detail:
        raise ApiError(415, "unsupported_media_type", detail, errors=[FieldError("header/Content-Type", detail)])


@functools.lru_cache(maxsize=64)
def _fault_of(content_type: str) -> str:
    header = Message()
    header["Content-Type"] = content_type
    media_type = header.get_content_type() if content_type.strip() else ""
    if media_type != "application/json" and not media_type.endswith("+json"):
        return "send JSON, with the header Content-Type: application/json"
    charset = header.get_param("charset")
    if charset is not None and str(charset).strip().lower() not in _UTF8_NAMES:
        return "the charset is UTF-8 only: send the body in UTF-8, with Content-Type: application/json"
    return ""


async def bounded_body(request: Request, max_bytes: int, *, too_large: str = "") -> bytes:
    """Reads and decodes a body of text up to a bound, without its content coding and byte order mark.

    Args:
        request: The request.
        max_bytes: The most bytes, both as sent and as decoded.
        too_large: The advice on a body that is too large.

    Raises:
        ApiError: 413, the body is larger; 415, its coding or character set is not supported; 422, it is damaged.
        ClientGone: The client went away inside it.
    """
    data = await bounded_bytes(request, max_bytes, too_large=too_large)
    if data.startswith(_UTF8_BOM):
        return data[len(_UTF8_BOM) :]  # RFC 8259, section 8.1: a parser may ignore it
    if data.startswith(_GZIP_MAGIC):
        detail = "Invalid JSON: the body looks like gzip: send it with the header Content-Encoding: gzip"
        raise invalid_content([FieldError("#", detail)])
    if data.startswith(_UTF16_BOMS) or b"\0" in data[:4]:
        raise _not_utf8("it looks like UTF-16 or UTF-32")
    return data


async def bounded_bytes(request: Request, max_bytes: int, *, too_large: str = "") -> bytes:
    """Reads a body of any content up to a bound, without its content coding.

    Args:
        request: The request.
        max_bytes: The most bytes, both as sent and as decoded.
        too_large: The advice on a body that is too large.

    Raises:
        ApiError: 413, the body is larger; 415, its coding is not supported; 422, it does not match its coding.
        ClientGone: The client went away inside it.
    """
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding and coding != "identity" and coding not in _WINDOW_BITS:
        detail = "this Content-Encoding is not read here: send gzip or deflate, or no Content-Encoding"
        error = FieldError("header/Content-Encoding", detail)
        raise ApiError(415, "unsupported_media_type", detail, errors=[error], headers={"Accept-Encoding": _ACCEPTED})
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes, too_large)
    chunks = bytearray()
    received = 0
    decoder = zlib.decompressobj(_WINDOW_BITS[coding]) if coding in _WINDOW_BITS else None
    try:
        async for chunk in request.stream():
            received += len(chunk)
            request.state.request_bytes = received
            # One byte more than allowed, so that a decompression bomb is detected without unpacking it
            chunks += decoder.decompress(chunk, max_bytes + 1 - len(chunks)) if decoder and chunk else chunk
            if received > max_bytes or len(chunks) > max_bytes:
                raise _too_large(max_bytes, too_large)
            if decoder and decoder.unused_data:
                raise _damaged(coding, "more follows after its end")
    except zlib.error:
        raise _damaged(coding, "it cannot be decoded") from None
    except ClientDisconnect:
        raise ClientGone from None
    if decoder and not decoder.eof:
        raise _damaged(coding, "its end is missing")
    return bytes(chunks)


def check_utf8(data: bytes) -> None:
    """Refuses a body that is not UTF-8, with the encoding as the fault.

    Raises:
        ApiError: 422, the body is not UTF-8.
    """
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(f"byte {error.start + 1} has no place in UTF-8") from None


def _not_utf8(why: str) -> ApiError:
    return invalid_content([FieldError("#", f"Invalid JSON: the body is not UTF-8, {why}: send UTF-8 only")])


def _damaged(coding: str, why: str) -> ApiError:
    advice = f"send what {coding} made, whole, or leave the header out"
    return invalid_content([FieldError("#", f"the body does not match Content-Encoding: {coding}: {why}; {advice}")])


def _too_large(max_bytes: int, advice: str) -> ApiError:
    detail = f"the body is too large, at most {max_bytes} bytes are allowed" + (f": {advice}" if advice else "")
    return ApiError(413, "body_too_large", detail, errors=[FieldError("#", detail)], headers={"Connection": "close"})
