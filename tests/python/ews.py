"""A real Exchange client, exchangelib, opens a session over TLS and looks at the inbox.

  ews.py ADDRESS NAME CA USER PASSWORD  ->  {"root": "root", "inbox": 0, "items": 0}

NAME is what the certificate must be for; it is looked up as ADDRESS, so that no resolver is needed.
"""

import json
import os
import socket
import sys


def open_account(address: str, port: int, name: str, ca: str, user: str, password: str):  # noqa: ANN201: imported late
    """The user's account, by way of ADDRESS."""
    lookup = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *rest, **more: lookup(address if host == name else host, *rest, **more)
    # requests, below exchangelib, verifies against this file.
    os.environ["REQUESTS_CA_BUNDLE"] = ca

    import exchangelib  # after the environment is set

    authority = name if port == 443 else f"{name}:{port}"
    configuration = exchangelib.Configuration(
        service_endpoint=f"https://{authority}/EWS/Exchange.asmx",
        credentials=exchangelib.Credentials(f"LAB\\{user}", password),
        auth_type=exchangelib.NTLM,
        version=exchangelib.Version(build=exchangelib.Build(15, 2, 1544, 4)),
    )
    return exchangelib.Account(
        f"{user}@lab.test", config=configuration, autodiscover=False, access_type=exchangelib.DELEGATE
    )


def main(address: str, name: str, ca: str, user: str, password: str) -> None:
    account = open_account(address, 443, name, ca, user, password)
    account.inbox.refresh()
    result = {
        "root": account.root.name,
        "inbox": account.inbox.total_count,
        "items": len(list(account.inbox.all().only("subject"))),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
