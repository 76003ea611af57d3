"""NTLM and SPNEGO acceptor: checks real passwords with pyspnego, a library that knows nothing of us.

lb-pool starts one of these and talks to it over the standard streams, one JSON object a line, answers in the
order of the questions:

  {"connection": 7, "token": "<base64>"}  ->  {"token": "<base64>" or null, "user": "LAB\\alice" or null, "error": "..." or null}
  {"connection": 7}                       forgets an unfinished handshake; no answer

A question may have "protection": "allow" or "require", Extended Protection as IIS has it (tokenChecking): a client that
binds its login to a TLS channel must have bound it to ours (RFC 5929, tls-server-end-point); one that doesn't is let in
by "allow" alone.

An answer without user and error asks for another leg. The first argument is users and passwords, a line for each:
DOMAIN:user:password. The second, where there is TLS, is the file with the certificate that clients are shown. Ends when
its input ends, so it never outlives lb-pool.
"""

import base64
import json
import os
import sys

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2
from spnego.channel_bindings import GssChannelBindings

AUTHENTICATE = b"NTLMSSP\0\3\0\0\0"


def end_point(certificate: str) -> GssChannelBindings:
    """The channel bindings of a server with this certificate: RFC 5929 section 4.1."""
    with open(certificate, "rb") as file:
        leaf = x509.load_pem_x509_certificate(file.read())
    algorithm = leaf.signature_hash_algorithm
    if algorithm is None or algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + leaf.fingerprint(algorithm))


def is_bound(token: bytes) -> bool:
    """Whether the client's last message says which channel it came by; a value of zeros says nothing."""
    start = token.find(AUTHENTICATE)
    response = Authenticate.unpack(token[start:]).nt_challenge_response if start >= 0 else None
    if not response or len(response) <= 24:
        return False
    pairs = NTClientChallengeV2.unpack(response[16:]).av_pairs
    return any(pairs.get(AvId.channel_bindings, b""))


def protect(token: bytes, protection: str | None, ours: GssChannelBindings | None) -> dict:
    """What to give to the step with this token; raises where the policy refuses it."""
    if protection is None or AUTHENTICATE not in token:
        return {}
    if is_bound(token):
        if ours is None:
            raise ValueError("bound to a channel, and there is none")
        return {"channel_bindings": ours}
    if protection == "require":
        raise ValueError("not bound to the channel, which Extended Protection requires")
    return {}


def accept(handshakes: dict, connection: int, token: bytes, protection: str | None, ours: GssChannelBindings | None) -> dict:
    """One leg of a connection's handshake."""
    context = handshakes.pop(connection, None)
    try:
        if context is None:
            # The pure Python provider, whatever system libraries there are: it is the one that was proved.
            context = spnego.server(protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate)
        answer = context.step(token, **protect(token, protection, ours))
    except Exception as error:  # noqa: BLE001: the library raises many kinds for a bad token; each is a failed login
        return {"token": None, "user": None, "error": f"{type(error).__name__}: {error}"}
    if not context.complete:
        handshakes[connection] = context
    return {
        "token": base64.b64encode(answer).decode() if answer else None,
        "user": context.client_principal if context.complete else None,
        "error": None,
    }


def provide(users: str) -> None:
    """Gives pyspnego the file of users that it wants, in memory, so that no end leaves it behind."""
    file = os.memfd_create("users")
    os.write(file, users.encode())
    os.environ["NTLM_USER_FILE"] = f"/proc/self/fd/{file}"


def main(users: str, certificate: str | None = None) -> None:
    provide(users)
    ours = end_point(certificate) if certificate else None
    handshakes: dict = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "token" not in question:
            handshakes.pop(question["connection"], None)
            continue
        token, protection = base64.b64decode(question["token"]), question.get("protection")
        answer = accept(handshakes, question["connection"], token, protection, ours)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        # lb-pool was killed while it waited. Not the usual way out, which would write to the pipe once more.
        os._exit(0)
