"""The client's way to a server: address, proxies, certificates, and the message when no answer comes."""

import ipaddress
import os
import re
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

_PROBE_TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 10.0
_MAX_SHOWN_CHARS = 200
_HOST = re.compile(r"(?!.{254})[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_SCHEMES = {"http", "https"}
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_TLS_FOUND_PLAIN_HTTP = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"}

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class AddressInvalid(ValueError):
    """An address, a proxy or a certificate setting that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        url: The proxy's address.
        source: The setting and its value, without secrets, for messages.
    """

    url: str
    source: str


def masked(url: str | httpx.URL) -> str:
    """An address for messages: without user name and password, and without a slash at its end."""
    return re.sub(r"(^|//)[^/@]*@", r"\1***@", re.sub(r"(?<!/)/$", "", str(url)))


def server_address(given: str) -> httpx.URL:
    """The address of a server.

    An address of this machine may come without a scheme: ``localhost:8000``. A ``/v1`` at the end is left out, since
    each call has it.

    Raises:
        AddressInvalid: The text is no address of an HTTP server.
    """
    text = given.strip()
    shown = repr(masked(text[:_MAX_SHOWN_CHARS]))
    if not text:
        raise AddressInvalid("the server's address is empty: give one such as http://127.0.0.1:8000")
    if "://" not in text:
        if not is_this_machine(_host(text)):
            raise AddressInvalid(f"the server's address {shown} does not start with http:// or https://")
        text = f"http://{text}"
    scheme, rest = text.split("://", 1)
    authority = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    if scheme.lower() not in _SCHEMES:
        raise AddressInvalid(f"the server's address {shown} does not start with http:// or https://")
    if authority.count(":") > 1 and not authority.startswith("["):
        host, _, port = authority.rpartition(":")
        example = f"[{host}]:{port}" if _is_ip(host) else f"[{authority}]" if _is_ip(authority) else "[::1]:8000"
        raise AddressInvalid(
            f"the server's address {shown} has an IPv6 address without brackets: use {scheme}://{example}"
        )
    try:
        url = httpx.URL(text)
        port_number = url.port
    except (httpx.InvalidURL, ValueError) as error:  # idna's errors are ValueErrors
        detail = str(error)[:_MAX_SHOWN_CHARS]
        raise AddressInvalid(f"the server's address {shown} is not valid: {detail}") from None
    if not url.host:
        raise AddressInvalid(f"the server's address {shown} has no host: give one such as http://127.0.0.1:8000")
    if port_number is not None and not 0 < port_number <= 65535:
        raise AddressInvalid(f"the server's address {shown} has the port {port_number}: ports are 1 to 65535")
    if url.query or url.fragment:
        raise AddressInvalid(f"the server's address {shown} has a query or a fragment: end it before '?' and '#'")
    if not _is_ip(url.host) and not _HOST.fullmatch(url.raw_host.decode("ascii")):
        raise AddressInvalid(f"the server's address {shown} has {url.host!r} where the name of a host belongs")
    path = re.sub(r"/v1/?$", "/", url.path)
    return url if path == url.path else url.copy_with(path=path)


def is_this_machine(host: str) -> bool:
    """Whether a host name or address reaches this machine alone."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost") or re.fullmatch(r"127(\.\d+){1,3}", host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.is_loopback)


def proxy_of(url: httpx.URL) -> Proxy | None:
    """The proxy that the environment names for a server; None for a server on this machine."""
    if is_this_machine(url.host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    if not address or urllib.request.proxy_bypass(host):
        return None
    names = [f"{scheme}_proxy" for scheme in (url.scheme, "all")]
    variables = [name for lower in names for name in (lower, lower.upper()) if os.environ.get(name) == address]
    source = f"{variables[0] if variables else 'the system settings'}={masked(address)}"
    return Proxy(address if "://" in address else f"http://{address}", source)


def http_client(
    kind: type[Http],
    url: httpx.URL,
    proxy: Proxy | None,
    *,
    headers: dict[str, str],
    timeout_s: float,
    transport: Any = None,
) -> Http:
    """An HTTP client that goes through this proxy, or through none, or through a transport in place of the network.

    Raises:
        AddressInvalid: The proxy or the certificates cannot be used.
    """
    # Without the environment, whose proxies httpx would use for this machine too. Plain HTTP needs no certificates,
    # and loading them takes time, so the context is empty and trusts nobody.
    needs_certificates = url.scheme == "https" and transport is None
    context = _trusted() if needs_certificates else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return kind(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S)),
            verify=context,
            proxy=None if proxy is None else proxy.url,
            trust_env=False,
            transport=transport,
        )
    except ImportError:
        source = "" if proxy is None else proxy.source
        raise AddressInvalid(
            f"the proxy from {source} speaks SOCKS, which needs a package: pip install 'httpx[socks]', "
            f"or set NO_PROXY={url.host} to go past it"
        ) from None
    except (httpx.InvalidURL, ValueError) as error:
        source = "" if proxy is None else proxy.source
        raise AddressInvalid(f"the proxy from {source} cannot be used: {masked(str(error))}") from None


def absent_certificates() -> str | None:
    """The certificate setting that counts, with its value, where it names a file or folder that does not exist."""
    for name in _CERTIFICATE_VARIABLES:
        path = os.environ.get(name)
        if path:
            return None if Path(path).exists() else f"{name}={path}"
    return None


def reason_of(error: httpx.TransportError, url: httpx.URL, proxy: Proxy | None) -> str:
    """The message on a failed connection: the cause and the remedy."""
    shown = masked(url)
    detail = str(error) or type(error).__name__
    reason = f"{detail}; is `handful serve` running?"
    fault = _tls_fault(error)
    if fault is not None and proxy is not None and proxy.url.startswith("https:") and _found_plain_http(fault):
        reason = f"the proxy from {proxy.source} speaks plain HTTP: write http:// in that setting"
    elif fault is not None:
        reason = _tls_reason(fault, url)
    elif proxy is not None and isinstance(error, httpx.ProxyError | httpx.ConnectError | httpx.ConnectTimeout):
        reason = (
            f"the proxy from {proxy.source} does not answer, or refuses ({detail}); "
            f"set NO_PROXY={url.host} to go past it"
        )
    elif any(isinstance(cause, socket.gaierror) for cause in _causes(error)):
        reason = f"there is no host {url.host!r} ({detail})"
    elif isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        reason = "the time is over; the server is busy, or something else listens there"
    elif isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        reason = f"the connection broke ({detail}); does a Handful server listen there?"
        if url.scheme == "http" and proxy is None and _speaks_tls(url):
            reason = f"this port speaks HTTPS: use {_with_scheme(url, 'https')}"
    return f"no answer from {shown}: {reason}"


def _tls_reason(fault: ssl.SSLError, url: httpx.URL) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({fault.verify_message}); SSL_CERT_FILE=FILE names certificates of your "
            "own"
        )
    if _found_plain_http(fault):
        return f"this port speaks plain HTTP: use {_with_scheme(url, 'http')}"
    return f"TLS failed ({fault})"


def _found_plain_http(fault: ssl.SSLError) -> bool:
    return fault.reason in _TLS_FOUND_PLAIN_HTTP


def is_permanent(error: httpx.TransportError) -> bool:
    """Whether a retry is of no use."""
    return _tls_fault(error) is not None or isinstance(error, httpx.UnsupportedProtocol)


def speaks_https(answer: httpx.Response) -> bool:
    """Whether an answer is the refusal of plain HTTP by a port that speaks HTTPS (nginx, Apache, Go)."""
    if answer.status_code != httpx.codes.BAD_REQUEST:
        return False
    text = answer.text[:2000].lower()
    return any(part in text for part in ("https port", "https server", "ssl-enabled server", "requires tls"))


def https_address(url: httpx.URL) -> str:
    """An address with HTTPS as its scheme, for messages."""
    return _with_scheme(url, "https")


def _trusted() -> ssl.SSLContext:
    absent = absent_certificates()
    if absent is not None:
        raise AddressInvalid(f"{absent}: there is no such file or folder; correct the variable, or unset it")
    try:
        return httpx.create_ssl_context(trust_env=True)
    except (OSError, ssl.SSLError) as error:
        given = [f"{name}={os.environ[name]}" for name in _CERTIFICATE_VARIABLES if os.environ.get(name)]
        source = given[0] if given else "the package certifi"
        raise AddressInvalid(f"no certificates can be read from {source}: {error}") from None


def _host(text: str) -> str:
    authority = re.split(r"[/?#]", text)[0].rpartition("@")[2]
    if authority.startswith("["):
        return authority.partition("]")[0]
    return authority if authority.count(":") > 1 else authority.partition(":")[0]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _with_scheme(url: httpx.URL, scheme: str) -> str:
    return masked(url.copy_with(scheme=scheme, port=url.port))


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _tls_fault(error: BaseException) -> ssl.SSLError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)


def _speaks_tls(url: httpx.URL) -> bool:
    """Whether a port answers a TLS handshake; no request is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((url.host, url.port or 80), timeout=_PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=url.host),
        ):
            return True
    except (OSError, ValueError):
        return False
