"""The client's messages of NTLM logins, made with pyspnego for a program that opens the connections itself.

One JSON object a line, answers in the order of the questions:

  {"login": 7, "user": "alice", "password": "...", "scheme": "NTLM" or "Negotiate"}  ->  {"token": "<base64>"}
  {"login": 7, "challenge": "<base64>"}                                              ->  {"token": "<base64>"}

A login is forgotten with its second message, or when its number is used again. Ends with its input.
"""

import base64
import json
import sys

import wire


def main() -> None:
    logins: dict = {}
    for line in sys.stdin:
        question = json.loads(line)
        number = question["login"]
        if "user" in question:
            logins[number] = wire.Login(question["user"], question["password"], question["scheme"])
            value = logins[number].first()
        else:
            value = logins.pop(number).last(base64.b64decode(question["challenge"]))
        print(json.dumps({"token": value.partition(" ")[2]}), flush=True)


if __name__ == "__main__":
    main()
