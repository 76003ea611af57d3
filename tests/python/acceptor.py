"""NTLM and SPNEGO acceptor: checks real passwords with pyspnego, a library that knows nothing of us.

lb-pool starts one of these and talks to it over the standard streams, one JSON object a line, answers in the
order of the questions:

  {"connection": 7, "token": "<base64>"}  ->  {"token": "<base64>" or null, "user": "LAB\\alice" or null, "error": "..." or null}
  {"connection": 7}                       forgets an unfinished handshake; no answer

An answer without user and error asks for another leg. Users and passwords are the one argument, a line for each:
DOMAIN:user:password. Ends when its input ends, so it never outlives lb-pool.
"""

import base64
import json
import os
import sys

import spnego


def accept(handshakes: dict, connection: int, token: bytes) -> dict:
    """One leg of a connection's handshake."""
    context = handshakes.pop(connection, None)
    try:
        if context is None:
            # The pure Python provider, whatever system libraries there are: it is the one that was proved.
            context = spnego.server(protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate)
        answer = context.step(token)
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


def main(users: str) -> None:
    provide(users)
    handshakes: dict = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "token" not in question:
            handshakes.pop(question["connection"], None)
            continue
        answer = accept(handshakes, question["connection"], base64.b64decode(question["token"]))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
