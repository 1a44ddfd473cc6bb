"""Who may ask: a middleware before everything else.

A page of another site, open in the same browser, must not be able to use a server on this machine:
neither by sending requests to it (the ``Origin`` header tells) nor by giving its own name this
machine's address (the ``Host`` header tells).
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fader.app.errors import answer
from fader.app.settings import MB, Settings, is_loopback

COOKIE = "fader_token"

# Pages that a link on another site may lead to.
_PAGES = ("/", "/docs")

_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}

_TOKEN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Fader</title>
<h1>Fader</h1><p>This page needs its token: open the link that the server printed, or type it here.
</p><form method="get" action="/"><label>Token
<input name="token" type="password" autofocus></label>
<button>Open</button></form></html>"""


class Guard:
    """Answers what is refused itself, and passes on the rest."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        names = {"localhost", settings.host, *settings.hosts}
        if not is_loopback(settings.host):
            names |= {socket.gethostname(), socket.getfqdn()}
        self._names = {name.casefold().rstrip(".") for name in names}
        # Bound to every address, it may be called by any; a name that leads there may be anyone's.
        self._by_address = settings.host in ("0.0.0.0", "::", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request in a sentence, or hand it on (ASGI)."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                kept = "no-store" if scope["path"].startswith("/api") else "no-cache"
                headers.setdefault("cache-control", kept)
            await send(message)

        headers = Headers(scope=scope)
        refusal = (
            self._foreign(scope, headers)
            or self._without_token(scope, headers)
            or self._too_long(headers)
        )
        await (refusal or self._app)(scope, receive, with_headers)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return answer(
                421,
                "this server is not called that (Host header); open it by the address it "
                "printed, or start it with --allow-host NAME",
            )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = origin is not None and _host_of(origin) != hosts[0].casefold()
        get = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        visit = get and scope["path"] in _PAGES
        if foreign or (site in ("cross-site", "same-site") and not visit):
            return answer(403, "requests from pages of other sites are refused")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name.casefold().rstrip(".") in self._names:
                return True
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._by_address or (is_loopback(self._settings.host) and address.is_loopback)

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._settings.token
        if not token:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and _same(given.strip(), token)
        if by_header or _same(_cookie(headers), token):
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] == "GET":
            if _same(asked, token):
                # The address, which browsers remember and show, is free of it from here on.
                response = RedirectResponse("/", 303)
                response.set_cookie(COOKIE, token.encode().hex(), httponly=True, samesite="strict")
                return response
            if "text/html" in headers.get("accept", ""):
                return HTMLResponse(_TOKEN_PAGE, 401)
        refusal = answer(401, "this server needs its token: send Authorization: Bearer TOKEN")
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal

    def _too_long(self, headers: Headers) -> Response | None:
        kind = headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):  # counted as it is read
            return None
        if "transfer-encoding" in headers:
            return answer(411, "send a Content-Length with what is no upload")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MB:
            return answer(413, "a request that is no upload may have 1 MB at most")
        return None


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        return bytes.fromhex(morsel.value).decode() if morsel else ""
    except (CookieError, ValueError):
        return ""


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), token.encode(errors="replace"))


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.casefold()
    except ValueError:  # no address at all, such as http://[
        return ""
