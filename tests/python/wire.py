"""One HTTP/1.1 connection that is never replaced behind the caller's back.

requests and urllib3 re-dial silently, which would hide the very thing these scripts look at: who a TCP
connection is logged in as. NTLM messages come from pyspnego.
"""

import base64
import http.client
import json
import ssl

import spnego


class Connection:
    """A TCP (or TLS) connection; `request` raises http.client.NotConnected once the server has closed it."""

    def __init__(self, host: str, port: int, ca: str | None = None, name: str | None = None) -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=30)
        self._http.connect()
        if ca:
            context = ssl.create_default_context(cafile=ca)
            self._http.sock = context.wrap_socket(self._http.sock, server_hostname=name or host)
        self._http.auto_open = 0

    def request(self, path: str, authorization: str | None = None) -> "Answer":
        headers = {"Authorization": authorization} if authorization else {}
        self._http.request("GET", path, headers=headers)
        response = self._http.getresponse()
        return Answer(response.status, response.headers, response.read())

    def close(self) -> None:
        self._http.close()


class Answer:
    """A response, read to its end."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def token(self) -> bytes:
        """The token in the first WWW-Authenticate field; empty where the server answers no handshake."""
        return base64.b64decode((self.headers["WWW-Authenticate"] or "").partition(" ")[2])

    def user(self) -> str | None:
        """The user that /whoami says we are."""
        return json.loads(self.body)["user"] if self.status == 200 else None


class Login:
    """The two client messages of an NTLM login, raw under the scheme NTLM or in SPNEGO under Negotiate."""

    def __init__(self, user: str, password: str, scheme: str = "NTLM") -> None:
        self._scheme = scheme
        self._context = spnego.client(
            f"LAB\\{user}",
            password,
            protocol=scheme.lower(),
            # The pure Python provider, whatever system libraries there are.
            options=spnego.NegotiateOptions.use_negotiate if scheme == "Negotiate" else spnego.NegotiateOptions.use_ntlm,
        )

    def first(self) -> str:
        return self._header(self._context.step())

    def last(self, challenge: bytes) -> str:
        return self._header(self._context.step(challenge))

    def _header(self, token: bytes) -> str:
        return f"{self._scheme} {base64.b64encode(token).decode()}"


def one_leg(user: str, password: str) -> str:
    """The pool's stand-in for a Kerberos ticket: a login in one leg that binds to the connection."""
    return "Negotiate " + base64.b64encode(f"ONELEG:{user}:{password}".encode()).decode()
