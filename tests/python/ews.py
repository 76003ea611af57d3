"""A real Exchange client, exchangelib, opens a session over TLS and looks at the inbox.

  ews.py ADDRESS NAME CA USER PASSWORD  ->  {"root": "root", "inbox": 0, "items": 0}

NAME is what the certificate must be for; it is looked up as ADDRESS, so that no resolver is needed.
"""

import json
import os
import socket
import sys


def main(address: str, name: str, ca: str, user: str, password: str) -> None:
    lookup = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *rest, **more: lookup(address if host == name else host, *rest, **more)
    # requests, below exchangelib, verifies against this file.
    os.environ["REQUESTS_CA_BUNDLE"] = ca

    import exchangelib  # after the environment is set

    configuration = exchangelib.Configuration(
        service_endpoint=f"https://{name}/EWS/Exchange.asmx",
        credentials=exchangelib.Credentials(f"LAB\\{user}", password),
        auth_type=exchangelib.NTLM,
        version=exchangelib.Version(build=exchangelib.Build(15, 2, 1544, 4)),
    )
    account = exchangelib.Account(
        f"{user}@lab.test", config=configuration, autodiscover=False, access_type=exchangelib.DELEGATE
    )
    account.inbox.refresh()
    result = {
        "root": account.root.name,
        "inbox": account.inbox.total_count,
        "items": len(list(account.inbox.all().only("subject"))),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
